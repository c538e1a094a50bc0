// The waveform of a lane: turns, the outline of the part that is visible, and the playhead.

import { make, makeSvg } from './dom.js';

// Spans in which at least a number of speakers are active.
export function activeSpans(speakers, minimum) {
  const changes = speakers.flatMap(speaker => speaker.turns.flatMap(([start, end]) => [[start, 1], [end, -1]]))
    .sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  const spans = [];
  let active = 0, start = 0;
  for (const [time, change] of changes) {
    if (active < minimum && active + change >= minimum) start = time;
    else if (active >= minimum && active + change < minimum && time > start) spans.push([start, time]);
    active += change;
  }
  return spans;
}

export const totalLength = spans => spans.reduce((sum, [start, end]) => sum + end - start, 0);

// The largest of each group of neighbouring values, so that at most a number of values remain.
function reduce(values, count) {
  const size = Math.max(1, Math.ceil(values.length / count));
  if (size === 1) return values;
  return Array.from({ length: Math.ceil(values.length / size) }, (_, i) =>
    values.slice(i * size, (i + 1) * size).reduce((a, b) => Math.max(a, b), 0));
}

export class Waveform {
  // Peaks are those of the whole recording. fetchPeaks(start, end, count, signal) returns those of a part.
  constructor(colour, turns, overlaps, peaks, seconds, fetchPeaks) {
    Object.assign(this, { seconds, fetchPeaks });
    this.whole = { start: 0, end: seconds, peaks };
    this.largest = peaks.reduce((a, b) => Math.max(a, b), 1e-6);
    this.detail = null;
    this.request = null;
    const toPercent = time => (100 * time) / seconds;
    const makeBox = ([start, end], y, height, attributes) =>
      makeSvg('rect', { x: toPercent(start), y, width: toPercent(end - start), height, ...attributes });
    const boxes = { viewBox: '0 0 100 100', preserveAspectRatio: 'none', 'aria-hidden': 'true' };
    this.polygon = makeSvg('polygon', { fill: colour, class: 'outline' });
    this.outline = makeSvg('svg', { preserveAspectRatio: 'none', 'aria-hidden': 'true', class: 'visible-part' }, this.polygon);
    this.playhead = make('div', { className: 'playhead' });
    this.element = make('div', { className: peaks.length ? 'waveform' : 'waveform silent' },
      makeSvg('svg', boxes, ...turns.map(turn => makeBox(turn, 3, 94, { fill: colour, class: 'turn' }))),
      this.outline,
      makeSvg('svg', boxes, ...overlaps.map(span => makeBox(span, 0, 100, { class: 'overlap' }))),
      this.playhead);
  }

  // Draws the outline from one time to another on a number of pixels, with as many peaks as pixels.
  draw(start, end, pixels) {
    const wanted = pixels / (end - start);
    const density = part => part.peaks.length / (part.end - part.start);
    const covers = part => part && part.start <= start + 1e-3 && part.end >= Math.min(end, this.seconds) - 1e-3;
    if (!this.fetchPeaks || density(this.whole) >= wanted) this.show(this.whole, start, end, pixels);
    else if (covers(this.detail) && density(this.detail) >= 0.7 * wanted) this.show(this.detail, start, end, pixels);
    else {
      this.show(covers(this.detail) ? this.detail : this.whole, start, end, pixels);
      this.refine(start, end, pixels);
    }
  }

  refine(start, end, pixels) {
    this.request?.abort();
    if (!this.fetchPeaks) return;
    const request = this.request = new AbortController();
    // Zooming and scrolling come in quick steps. The part reaches further than what is visible.
    const margin = (end - start) / 2, from = Math.max(0, start - margin), to = Math.min(this.seconds, end + margin);
    const count = Math.min(4000, Math.ceil((pixels * (to - from)) / (end - start)));
    setTimeout(async () => {
      if (request.signal.aborted) return;
      try {
        const part = await this.fetchPeaks(from, to, count, request.signal);
        this.detail = part;
        this.show(part, start, end, pixels);
      } catch {
        // The outline stays as it is: coarser, but not wrong.
      }
    }, 120);
  }

  show(part, start, end, pixels) {
    if (!part.peaks.length) return;
    const step = (part.end - part.start) / part.peaks.length;
    const first = Math.max(0, Math.floor((start - part.start) / step) - 1);
    const last = Math.min(part.peaks.length, Math.ceil((end - part.start) / step) + 1);
    const peaks = reduce(part.peaks.slice(first, last), 2 * pixels), from = part.start + first * step;
    const width = ((last - first) * step) / Math.max(1, peaks.length);
    const x = i => ((i + 0.5) * width).toFixed(4), height = peak => (44 * peak) / this.largest;
    const upper = peaks.map((peak, i) => `${x(i)},${(50 - height(peak)).toFixed(1)}`);
    const lower = peaks.map((peak, i) => `${x(i)},${(50 + height(peak)).toFixed(1)}`).reverse();
    this.polygon.setAttribute('points', [...upper, ...lower].join(' '));
    this.outline.setAttribute('viewBox', `0 0 ${Math.max(1e-3, width * peaks.length)} 100`);
    this.outline.style.left = `${(100 * from) / this.seconds}%`;
    this.outline.style.width = `${(100 * width * peaks.length) / this.seconds}%`;
    this.outline.dataset.peaks = peaks.length;
  }

  close() { this.request?.abort(); }
}
