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
  const talkers = found.talkers.sort((a, b) => a.name.localeCompare(b.name));
  $('nobody').hidden = talkers.length > 0;
  tell($('more'), found.count > talkers.length ? `and ${found.count - talkers.length} more` : '');
  $('talkers-list').replaceChildren(...talkers.map(row));
  $('known').replaceChildren(...talkers.map(talker => make('option', { value: talker.name })));
  map(talkers.filter(talker => talker.x !== null), found.spread);
}

function row(talker) {
  const day = new Date(talker.added), notes = Object.entries(talker.metadata).map(([k, v]) => `${k}: ${v}`);
  const facts = [
    count(talker.recordings, 'recording', 'recordings'),
    `${talker.seconds.toFixed(1)} s of speech`,
    Number.isNaN(day.valueOf()) ? talker.added : day.toLocaleDateString(undefined, { dateStyle: 'medium' }),
    ...notes,
  ].join(' · ');
  const remove = make('button', { type: 'button', className: 'small' }, 'Delete');
  remove.setAttribute('aria-label', `Delete ${talker.name}`);
  remove.addEventListener('click', async () => {
    if (!await sure(`Delete ${talker.name}, and all that was heard of them?`, 'Delete')) return remove.focus();
    try {
      await ask('DELETE', `api/gallery/${encodeURIComponent(talker.name)}`);
    } catch (error) {
      tell($('gallery-problem'), error.message);
      return;
    }
    await showGallery();
    $('said').textContent = `${talker.name} was deleted`;
    ($('talkers-list').querySelector('button') ?? $('file')).focus();
  });
  return make('li', {},
    make('div', {}, make('b', {}, talker.name), make('p', { className: 'hint' }, facts)), remove);
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

function map(talkers, spread) {
  const figure = $('map'), svg = figure.querySelector('svg');
  figure.hidden = talkers.length < 2;
  const xs = talkers.map(t => t.x), ys = talkers.map(t => t.y);
  // One scale for both directions: distances are what it shows.
  const across = all => Math.max(...all) - Math.min(...all);
  const size = Math.max(across(xs), across(ys) * (WIDE - 2 * EDGE) / (HIGH - 2 * EDGE), 1e-6);
  const scale = (WIDE - 2 * EDGE) / size;
  const middle = all => (Math.max(...all) + Math.min(...all)) / 2;
  const points = talkers.map(talker => ({
    name: talker.name,
    x: WIDE / 2 + (talker.x - middle(xs)) * scale,
    y: HIGH / 2 - (talker.y - middle(ys)) * scale,
  }));
  svg.replaceChildren(
    ...points.map(({ name, x, y }) => draw('circle', { cx: x, cy: y, r: 5 }, draw('title', {}, name))),
    ...(points.length > NAMED ? [] : labels(points)));
  $('map-words').textContent =
    `Map of ${talkers.length} talkers: near means alike. It shows ${percent(spread)} of how they differ.`;
}
