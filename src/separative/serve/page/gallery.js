// Who is enrolled: a list to delete from, and a map on which those who sound alike are near.

import { ask } from './api.js';
import { $, count, draw, make, percent, sure, tell } from './dom.js';

const WIDE = 400, HIGH = 300, EDGE = 36, NAMED = 40;

export async function showGallery() {
  let found;
  try {
    found = await ask('GET', 'api/gallery');
  } catch (error) {
    tell($('gallery-problem'), error.message);
    return;
  }
  tell($('gallery-problem'), '');
  const speakers = found.speakers.sort((a, b) => a.name.localeCompare(b.name));
  $('nobody').hidden = speakers.length > 0;
  tell($('more'), found.count > speakers.length ? `and ${found.count - speakers.length} more` : '');
  $('speakers-list').replaceChildren(...speakers.map(row));
  $('known').replaceChildren(...speakers.map(speaker => make('option', { value: speaker.name })));
  map(speakers.filter(speaker => speaker.x !== null), found.spread);
}

function row(speaker) {
  const day = new Date(speaker.added), notes = Object.entries(speaker.metadata).map(([k, v]) => `${k}: ${v}`);
  const facts = [
    count(speaker.recordings, 'recording', 'recordings'),
    `${speaker.seconds.toFixed(1)} s of speech`,
    Number.isNaN(day.valueOf()) ? speaker.added : day.toLocaleDateString(undefined, { dateStyle: 'medium' }),
    ...notes,
  ].join(' · ');
  const remove = make('button', { type: 'button', className: 'small' }, 'Delete');
  remove.setAttribute('aria-label', `Delete ${speaker.name}`);
  remove.addEventListener('click', async () => {
    if (!await sure(`Delete ${speaker.name}, and all that was heard of them?`, 'Delete')) return remove.focus();
    try {
      await ask('DELETE', `api/gallery/${encodeURIComponent(speaker.name)}`);
    } catch (error) {
      tell($('gallery-problem'), error.message);
      return;
    }
    await showGallery();
    $('said').textContent = `${speaker.name} was deleted`;
    ($('speakers-list').querySelector('button') ?? $('file')).focus();
  });
  return make('li', {},
    make('div', {}, make('b', {}, speaker.name), make('p', { className: 'hint' }, facts)), remove);
}

// Names beside, above or below their points, where nothing else is; left out where there is no place.
function labels(points) {
  const taken = points.map(({ x, y }) => [x - 6, y - 6, x + 6, y + 6]);
  return points.flatMap(({ name, x, y }) => {
    const words = name.length > 16 ? `${name.slice(0, 15)}…` : name, wide = 7 * words.length;
    for (const [left, base] of [[x + 9, y + 4], [x - 9 - wide, y + 4], [x - wide / 2, y - 10], [x - wide / 2, y + 18]]) {
      const box = [left, base - 11, left + wide, base + 3];
      const inside = box[0] > 2 && box[2] < WIDE - 2 && box[1] > 2 && box[3] < HIGH - 2;
      if (!inside || taken.some(b => b[0] < box[2] && box[0] < b[2] && b[1] < box[3] && box[1] < b[3])) continue;
      taken.push(box);
      return [draw('text', { x: left + wide / 2, y: base, 'text-anchor': 'middle' }, words)];
    }
    return [];
  });
}

function map(speakers, spread) {
  const figure = $('map'), svg = figure.querySelector('svg');
  figure.hidden = speakers.length < 2;
  const xs = speakers.map(t => t.x), ys = speakers.map(t => t.y);
  // One scale for both directions: distances are what it shows.
  const across = all => Math.max(...all) - Math.min(...all);
  const size = Math.max(across(xs), across(ys) * (WIDE - 2 * EDGE) / (HIGH - 2 * EDGE), 1e-6);
  const scale = (WIDE - 2 * EDGE) / size;
  const middle = all => (Math.max(...all) + Math.min(...all)) / 2;
  const points = speakers.map(speaker => ({
    name: speaker.name,
    x: WIDE / 2 + (speaker.x - middle(xs)) * scale,
    y: HIGH / 2 - (speaker.y - middle(ys)) * scale,
  }));
  svg.replaceChildren(
    ...points.map(({ name, x, y }) => draw('circle', { cx: x, cy: y, r: 5 }, draw('title', {}, name))),
    ...(points.length > NAMED ? [] : labels(points)));
  $('map-words').textContent =
    `Map of ${speakers.length} speakers: near means alike. It shows ${percent(spread)} of how they differ.`;
}
