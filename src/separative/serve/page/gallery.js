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

function map(talkers, spread) {
  const figure = $('map'), svg = figure.querySelector('svg');
  figure.hidden = talkers.length < 2;
  const xs = talkers.map(t => t.x), ys = talkers.map(t => t.y);
  // One scale for both directions: distances are what it shows.
  const size = Math.max(Math.max(...xs) - Math.min(...xs), (Math.max(...ys) - Math.min(...ys)) * (WIDE / HIGH), 1e-6);
  const scale = (WIDE - 2 * EDGE) / size;
  const middle = all => (Math.max(...all) + Math.min(...all)) / 2;
  svg.replaceChildren(...talkers.map(talker => {
    const x = WIDE / 2 + (talker.x - middle(xs)) * scale, y = HIGH / 2 - (talker.y - middle(ys)) * scale * 0.85;
    const right = x > WIDE * 0.7;
    const point = draw('circle', { cx: x, cy: y, r: 5 }, draw('title', {}, talker.name));
    if (talkers.length > NAMED) return point;
    const short = talker.name.length > 16 ? `${talker.name.slice(0, 15)}…` : talker.name;
    const label = draw('text', { x: x + (right ? -9 : 9), y: y + 4, 'text-anchor': right ? 'end' : 'start' }, short);
    return draw('g', {}, point, label);
  }));
  $('map-words').textContent =
    `Map of ${talkers.length} talkers: near means alike. It shows ${percent(spread)} of how they differ.`;
}
