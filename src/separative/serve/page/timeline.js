// Lanes: who speaks when, over the outline of each voice; where to listen, and how close to look.

import { $, clock, count, draw, make, percent, tell } from './dom.js';
import { lane } from './lane.js';
import { Player } from './player.js';

const COLOURS = 8;
const STEPS = [1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600];
const JUMP = 5;

// Stretches in which at least so many have the turn.
export function spans(speakers, least) {
  const steps = speakers.flatMap(t => t.turns.flatMap(([a, b]) => [[a, 1], [b, -1]]))
    .sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  const found = [];
  let running = 0, begun = 0;
  for (const [time, change] of steps) {
    if (running < least && running + change >= least) begun = time;
    else if (running >= least && running + change < least && time > begun) found.push([begun, time]);
    running += change;
  }
  return found;
}

const length = stretches => stretches.reduce((sum, [a, b]) => sum + b - a, 0);

function outline(peaks) {
  const most = Math.max(1e-6, ...peaks), at = peaks.map((_, i) => (100 * (i + 0.5)) / peaks.length);
  const up = peaks.map((p, i) => `${at[i].toFixed(3)},${(50 - (44 * p) / most).toFixed(1)}`);
  const down = peaks.map((p, i) => `${at[i].toFixed(3)},${(50 + (44 * p) / most).toFixed(1)}`).reverse();
  return [...up, ...down].join(' ');
}

export class Timeline {
  constructor() {
    this.player = null;
    this.zoom = 1;
    $('play').addEventListener('click', () => this.toggle());
    $('closer').addEventListener('click', () => this.magnify(2));
    $('wider').addEventListener('click', () => this.magnify(0.5));
    $('position').addEventListener('input', event => this.player.seek(Number(event.target.value)));
    $('scroller').addEventListener('scroll', () => this.follow());
    addEventListener('resize', () => { if (this.lanes) this.magnify(1); });
    document.addEventListener('keydown', event => this.key(event));
  }

  // A job that is done; enrolled() is called when a speaker was enrolled.
  show(job, enrolled) {
    this.close();
    const { result, path } = job, { speakers, seconds } = result, together = spans(speakers, 2);
    this.seconds = seconds;
    const sources = ['mixture.wav', ...speakers.map((_, i) => `voices/${i + 1}.wav`)].map(name => `${path}/${name}`);
    const lost = () => tell($('problem'), 'The server no longer has this recording: diarize it once more.');
    this.player = new Player(sources, seconds, () => this.refresh(), lost);
    $('meeting-title').textContent = result.recording;
    const spoken = length(spans(speakers, 1)), share = spoken ? length(together) / spoken : 0;
    $('summary').textContent = [
      speakers.length ? count(speakers.length, 'speaker', 'speakers') : 'nobody is heard',
      clock(seconds), `${percent(share)} of the speech overlaps`,
      ...(result.damage ? [`the file is damaged: ${result.damage}`] : []),
    ].join(' · ');
    for (const [id, name] of [['get-wav', 'mixture.wav'], ['get-rttm', 'meeting.rttm'], ['get-json', 'meeting.json']]) {
      $(id).href = `${path}/${name}?save=true`;
    }
    this.lanes = [
      lane({ name: 'Mixture', facts: 'what was recorded', colour: 'var(--soft)', path, number: 0, player: this.player }),
      ...speakers.map((speaker, i) => lane({
        name: `Speaker ${i + 1}`,
        facts: `${speaker.speech_seconds.toFixed(1)} s in ${count(speaker.turns.length, 'turn', 'turns')}`,
        colour: `var(--lane${1 + (i % COLOURS)})`,
        path, number: i + 1, player: this.player, identity: speaker.identity, enrolled,
      })),
    ];
    this.lanes.forEach((one, i) => {
      const said = i ? speakers[i - 1] : { turns: [], peaks: result.peaks };
      this.paint(one, said, together);
    });
    $('lanes').replaceChildren(...this.lanes.map(one => one.element));
    $('position').max = seconds;
    this.zoom = 1;
    $('meeting').hidden = false;
    this.magnify(1);
    this.refresh();
  }

  paint(one, { turns, peaks }, together) {
    const place = time => (100 * time) / this.seconds;
    const box = ([a, b], y, height, attributes) =>
      draw('rect', { x: place(a), y, width: place(b - a), height, ...attributes });
    const svg = draw('svg', { viewBox: '0 0 100 100', preserveAspectRatio: 'none', 'aria-hidden': 'true' },
      ...turns.map(turn => box(turn, 3, 94, { fill: one.colour, class: 'turn' })),
      draw('polygon', { points: outline(peaks), fill: one.colour, class: 'wave' }),
      ...together.map(span => box(span, 0, 100, { class: 'both' })));
    one.head = make('div', { className: 'head' });
    one.track.append(svg, one.head);
    one.track.addEventListener('click', event => {
      const { left, width } = one.track.getBoundingClientRect();
      this.player.seek(((event.clientX - left) / width) * this.seconds);
    });
    one.view.addEventListener('wheel', event => {
      const by = event.shiftKey ? event.deltaY : event.deltaX;
      if (!by || this.zoom === 1) return;
      event.preventDefault();
      $('scroller').scrollLeft += by;
    }, { passive: false });
  }

  refresh() {
    const { at, playing } = this.player;
    $('play').textContent = playing ? 'Pause' : 'Play';
    $('clock').textContent = `${clock(at)} / ${clock(this.seconds)}`;
    $('position').value = at;
    $('position').setAttribute('aria-valuetext', `${clock(at)} of ${clock(this.seconds)}`);
    for (const one of this.lanes ?? []) {
      one.head.style.left = `${(100 * at) / this.seconds}%`;
      one.refresh();
    }
    if (playing) this.keepInSight();
  }

  keepInSight() {
    const scroller = $('scroller'), width = scroller.scrollWidth, x = (width * this.player.at) / this.seconds;
    if (x < scroller.scrollLeft || x > scroller.scrollLeft + scroller.clientWidth) scroller.scrollLeft = x - 20;
  }

  magnify(factor) {
    const scroller = $('scroller'), closest = Math.max(4, this.seconds / 200);
    this.zoom = Math.min(Math.max(1, this.zoom * factor), Math.max(1, 2 ** Math.ceil(Math.log2(this.seconds / closest))));
    for (const one of this.lanes) one.track.style.width = `${100 * this.zoom}%`;
    const ticks = $('ticks'), room = Math.max(1, Math.floor((scroller.clientWidth * this.zoom) / 70));
    const step = STEPS.find(s => s >= this.seconds / room) ?? 7200;
    ticks.style.width = `${100 * this.zoom}%`;
    ticks.replaceChildren();
    for (let time = step; time < this.seconds - step / 3; time += step) {
      const mark = make('span', {}, clock(time));
      mark.style.left = `${(100 * time) / this.seconds}%`;
      ticks.append(mark);
    }
    // Not disabled: a button that is would lose the focus of whoever pressed it.
    $('wider').setAttribute('aria-disabled', this.zoom === 1);
    $('closer').setAttribute('aria-disabled', this.zoom * closest >= this.seconds);
    scroller.scrollLeft = (this.player.at / this.seconds) * scroller.scrollWidth - scroller.clientWidth / 2;
    this.follow();
  }

  follow() {
    const { scrollLeft } = $('scroller');
    for (const one of this.lanes ?? []) one.view.scrollLeft = scrollLeft;
  }

  toggle() {
    if (this.player.playing) this.player.pause();
    else this.player.play();
  }

  key(event) {
    const busy = event.target.closest('button, input, select, a, dialog, textarea, .scroller');
    if (!this.player || event.ctrlKey || event.metaKey || event.altKey || busy) return;
    const act = {
      ' ': () => this.toggle(),
      ArrowLeft: () => this.player.seek(this.player.at - JUMP),
      ArrowRight: () => this.player.seek(this.player.at + JUMP),
      '+': () => this.magnify(2),
      '-': () => this.magnify(0.5),
    }[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  }

  close() {
    this.player?.close();
    this.player = null;
    this.lanes = null;
    $('meeting').hidden = true;
  }
}
