// The enrolled speakers: a list to rename and delete them, and a map on which similar speakers are close together.

import { request } from './api.js';
import { $, confirmAction, count, make, makeSvg, percent, showText } from './dom.js';

// Size and margin of the map, the least number of speakers on it, and the largest number of speakers with a label.
const WIDTH = 400, HEIGHT = 300, MARGIN = 36, MIN_ON_MAP = 4, MAX_LABELS = 40;

// Called after a speaker was renamed or deleted.
let onChange = () => {};

export const setOnChange = callback => { onChange = callback; };

// Names of the enrolled speakers that are listed.
export let enrolled = new Set();

export async function showGallery() {
  let gallery;
  try {
    gallery = await request('GET', 'api/gallery');
  } catch (error) {
    showText($('gallery-error'), error.message);
    return;
  }
  showText($('gallery-error'), '');
  const speakers = gallery.speakers.sort((a, b) => a.name.localeCompare(b.name));
  enrolled = new Set(speakers.map(speaker => speaker.name));
  $('no-speakers').hidden = speakers.length > 0;
  showText($('more'), gallery.count > speakers.length ? `and ${gallery.count - speakers.length} more` : '');
  $('speaker-list').replaceChildren(...speakers.map(makeRow));
  $('speaker-names').replaceChildren(...speakers.map(speaker => make('option', { value: speaker.name })));
  drawMap(speakers.filter(speaker => speaker.x !== null), gallery.explained_variance);
}

function makeRow(speaker) {
  const date = new Date(speaker.added), notes = Object.entries(speaker.metadata).map(([k, v]) => `${k}: ${v}`);
  const facts = [
    count(speaker.recordings, 'recording', 'recordings'),
    `${speaker.speech_seconds.toFixed(1)} s of speech`,
    Number.isNaN(date.valueOf()) ? speaker.added : date.toLocaleDateString(undefined, { dateStyle: 'medium' }),
    ...notes,
  ].join(' · ');
  const buttons = { Rename: renameSpeaker, Delete: deleteSpeaker };
  return make('li', {},
    make('div', {}, make('b', {}, speaker.name), make('p', { className: 'hint' }, facts)),
    make('div', { className: 'actions' }, ...Object.entries(buttons).map(([label, action]) => {
      const button = make('button', { type: 'button', className: 'small' }, label);
      button.setAttribute('aria-label', `${label} ${speaker.name}`);
      button.addEventListener('click', () => action(speaker.name, button));
      return button;
    })));
}

const speakerPath = name => `api/gallery/${encodeURIComponent(name)}`;

async function deleteSpeaker(name, button) {
  if (!await confirmAction(`Delete ${name} and all stored data of this speaker?`, 'Delete')) return button.focus();
  try {
    await request('DELETE', speakerPath(name));
  } catch (error) {
    showText($('gallery-error'), error.message);
    return;
  }
  await showGallery();
  onChange();
  $('status').textContent = `${name} was deleted`;
  ($('speaker-list').querySelector('button') ?? $('file')).focus();
}

// Asks for a new name in a dialog, which stays open while the name is not accepted.
function renameSpeaker(name, button) {
  const dialog = $('rename'), field = $('new-name');
  $('rename-label').textContent = `New name of ${name}`;
  field.value = name;
  showText($('rename-error'), '');
  dialog.onclose = () => button.focus();
  $('rename-cancel').onclick = () => dialog.close();
  $('rename-form').onsubmit = async event => {
    event.preventDefault();
    try {
      const renamed = await request('PATCH', speakerPath(name), { name: field.value });
      dialog.onclose = null;
      dialog.close();
      await showGallery();
      onChange();
      const words = [`${name} was renamed to ${renamed.name}`, ...renamed.warnings];
      $('status').textContent = words.join('. ');
      $('speaker-list').querySelector(`[aria-label=${CSS.escape(`Rename ${renamed.name}`)}]`)?.focus();
    } catch (error) {
      showText($('rename-error'), error.message);
      field.focus();
    }
  };
  dialog.showModal();
  field.select();
}

// Places each label next to, above or below its point where it overlaps nothing, or leaves it out.
function placeLabels(points) {
  const occupied = points.map(({ x, y }) => [x - 6, y - 6, x + 6, y + 6]);
  return points.flatMap(({ name, x, y }) => {
    const text = name.length > 16 ? `${name.slice(0, 15)}…` : name, width = 7 * text.length;
    const places = [[x + 9, y + 4], [x - 9 - width, y + 4], [x - width / 2, y - 10], [x - width / 2, y + 18]];
    for (const [left, baseline] of places) {
      const box = [left, baseline - 11, left + width, baseline + 3];
      const inside = box[0] > 2 && box[2] < WIDTH - 2 && box[1] > 2 && box[3] < HEIGHT - 2;
      const overlaps = b => b[0] < box[2] && box[0] < b[2] && b[1] < box[3] && box[1] < b[3];
      if (!inside || occupied.some(overlaps)) continue;
      occupied.push(box);
      return [makeSvg('text', { x: left + width / 2, y: baseline, 'text-anchor': 'middle' }, text)];
    }
    return [];
  });
}

function drawMap(speakers, explainedVariance) {
  const figure = $('map'), svg = figure.querySelector('svg');
  // With two or three points, a map says nothing that the list does not.
  figure.hidden = speakers.length < MIN_ON_MAP;
  const xs = speakers.map(speaker => speaker.x), ys = speakers.map(speaker => speaker.y);
  // Both axes have the same scale, so that distances can be compared.
  const range = values => Math.max(...values) - Math.min(...values);
  const size = Math.max(range(xs), range(ys) * (WIDTH - 2 * MARGIN) / (HEIGHT - 2 * MARGIN), 1e-6);
  const scale = (WIDTH - 2 * MARGIN) / size;
  const middle = values => (Math.max(...values) + Math.min(...values)) / 2;
  const points = speakers.map(speaker => ({
    name: speaker.name,
    x: WIDTH / 2 + (speaker.x - middle(xs)) * scale,
    y: HEIGHT / 2 - (speaker.y - middle(ys)) * scale,
  }));
  svg.replaceChildren(
    ...points.map(({ name, x, y }) => makeSvg('circle', { cx: x, cy: y, r: 5 }, makeSvg('title', {}, name))),
    ...(points.length > MAX_LABELS ? [] : placeLabels(points)));
  $('map-caption').textContent = `Map of ${speakers.length} speakers. Similar speakers are close together. The map`
    + ` shows ${percent(explainedVariance)} of the variance of the embeddings.`;
}
