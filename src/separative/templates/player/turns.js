// The list of turns, which follows playback, and who is speaking now.

import { clock, make, percent } from './dom.js';

// Rows of the list, by start: the turns with their text, and parts of a transcript that belong to no turn.
export function listRows(speakers, transcript) {
  const rows = speakers.flatMap((speaker, place) => speaker.turns.map(([start, end], turn) =>
    ({ start, end, speaker, place, turn, confidence: speaker.confidence?.[turn] ?? null, texts: [] })));
  for (const { start, end, text, speaker: name } of transcript ?? []) {
    const overlap = row => Math.min(end, row.end) - Math.max(start, row.start);
    const own = rows.filter(row => row.speaker?.name === name).sort((a, b) => overlap(b) - overlap(a))[0];
    if (own && overlap(own) > -2) own.texts.push([start, text]);
    else rows.push({ start, end, speaker: null, place: -1, turn: -1, confidence: null, texts: [[start, text]] });
  }
  for (const row of rows) row.text = row.texts.sort((a, b) => a[0] - b[0]).map(([, text]) => text).join(' ');
  return rows.sort((a, b) => a.start - b.start || a.place - b.place);
}

export class TurnList {
  // onChoose is called with a row that was clicked.
  constructor(onChoose) {
    this.onChoose = onChoose;
    this.rows = [];
    this.list = make('ol', { className: 'turn-rows' });
    this.now = make('p', { className: 'now' });
    this.element = make('div', { className: 'turn-list', tabIndex: 0 }, this.list);
    this.element.setAttribute('role', 'group');
    this.element.setAttribute('aria-label', 'Turns');
    // While the list is scrolled by hand, it does not follow the playback.
    this.scrolled = 0;
    for (const type of ['wheel', 'touchmove', 'pointerdown']) {
      this.element.addEventListener(type, () => { this.scrolled = performance.now(); }, { passive: true });
    }
  }

  show(rows) {
    this.rows = rows;
    this.active = new Set();
    this.list.replaceChildren(...rows.map(row => {
      const chip = make('span', { className: 'chip' });
      chip.style.background = row.speaker?.colour ?? 'var(--edge)';
      chip.setAttribute('aria-hidden', 'true');
      const length = `${(row.end - row.start).toFixed(1)} s`;
      row.button = make('button', { type: 'button', className: 'turn-row' },
        make('span', { className: 'time' }, clock(row.start)), chip,
        make('span', { className: 'who' }, row.speaker?.title ?? 'no speaker'),
        make('span', { className: row.text ? 'text' : 'length' }, row.text || length),
        make('span', { className: 'confidence' }, row.confidence === null ? '' : `${percent(row.confidence)} sure`));
      row.button.addEventListener('click', () => this.onChoose(row));
      return make('li', {}, row.button);
    }));
  }

  // Marks the rows at a position, and keeps them in sight during playback.
  follow(position, playing) {
    const active = new Set(this.rows.filter(row => row.start <= position && position < row.end));
    for (const row of this.active) if (!active.has(row)) row.button.removeAttribute('aria-current');
    const added = [...active].filter(row => !this.active.has(row));
    for (const row of added) row.button.setAttribute('aria-current', 'true');
    this.active = active;
    const names = [...new Map([...active].filter(row => row.speaker).map(row => [row.speaker.id, row.speaker.title])).values()];
    const text = names.length ? `Now speaking: ${names.join(', ')}` : '';
    if (this.now.textContent !== text) this.now.textContent = text;
    if (playing && added.length && performance.now() - this.scrolled > 4000) this.bringIntoView(added[0]);
  }

  bringIntoView(row) {
    const { element } = this, top = row.button.offsetTop - element.offsetTop;
    if (top < element.scrollTop || top + row.button.offsetHeight > element.scrollTop + element.clientHeight) {
      element.scrollTop = Math.max(0, top - element.clientHeight / 3);
    }
  }
}
