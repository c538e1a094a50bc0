// The timeline: a track for the mixture and for each speaker, with turns, waveform, playback and zoom.

import { $, clock, count, make, makeSvg, percent, showText } from './dom.js';
import { Player } from './player.js';
import { makeTrack } from './track.js';

const COLOURS = 8;
// Seconds between the marks of the time axis.
const TICK_SECONDS = [1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600];
// Seconds that an arrow key moves the position.
const JUMP_SECONDS = 5;

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

const totalLength = spans => spans.reduce((sum, [start, end]) => sum + end - start, 0);

// Points of a polygon around the waveform, in percent of width and height.
function outlinePoints(peaks) {
  const largest = Math.max(1e-6, ...peaks), xs = peaks.map((_, i) => (100 * (i + 0.5)) / peaks.length);
  const upper = peaks.map((peak, i) => `${xs[i].toFixed(3)},${(50 - (44 * peak) / largest).toFixed(1)}`);
  const lower = peaks.map((peak, i) => `${xs[i].toFixed(3)},${(50 + (44 * peak) / largest).toFixed(1)}`).reverse();
  return [...upper, ...lower].join(' ');
}

export class Timeline {
  constructor() {
    this.player = null;
    this.zoom = 1;
    $('play').addEventListener('click', () => this.togglePlayback());
    $('zoom-in').addEventListener('click', () => this.zoomBy(2));
    $('zoom-out').addEventListener('click', () => this.zoomBy(0.5));
    $('position').addEventListener('input', event => this.player.seek(Number(event.target.value)));
    $('scroller').addEventListener('scroll', () => this.scrollTracks());
    addEventListener('resize', () => { if (this.tracks) this.zoomBy(1); });
    document.addEventListener('keydown', event => this.handleKey(event));
  }

  // Shows a finished job. onEnrolled is called after a speaker was enrolled.
  show(job, onEnrolled) {
    this.close();
    const { result, path } = job, { speakers, seconds } = result, overlaps = activeSpans(speakers, 2);
    this.seconds = seconds;
    const files = ['mixture.wav', ...speakers.map((_, i) => `speakers/${i + 1}.wav`)];
    const onLost = () =>
      showText($('error'), 'The server no longer has this recording. Diarize it again.');
    this.player = new Player(files.map(name => `${path}/${name}`), seconds, () => this.refresh(), onLost);
    $('diarization-title').textContent = result.recording;
    const speech = totalLength(activeSpans(speakers, 1)), share = speech ? totalLength(overlaps) / speech : 0;
    $('summary').textContent = [
      speakers.length ? count(speakers.length, 'speaker', 'speakers') : 'no speech found',
      clock(seconds), `${percent(share)} of the speech overlaps`,
      ...(result.damage ? [`the file is damaged: ${result.damage}`] : []),
    ].join(' · ');
    for (const [id, name] of [['get-wav', 'mixture.wav'], ['get-rttm', 'meeting.rttm'], ['get-json', 'meeting.json']]) {
      $(id).href = `${path}/${name}?save=true`;
    }
    const { player } = this;
    this.tracks = [
      makeTrack({ name: 'Mixture', facts: 'the recording', colour: 'var(--soft)', path, number: 0, player }),
      ...speakers.map((speaker, i) => makeTrack({
        name: `Speaker ${i + 1}`,
        facts: `${speaker.speech_seconds.toFixed(1)} s in ${count(speaker.turns.length, 'turn', 'turns')}`,
        colour: `var(--speaker${1 + (i % COLOURS)})`,
        path, number: i + 1, player, identity: speaker.identity, onEnrolled,
      })),
    ];
    this.tracks.forEach((track, i) => {
      const content = i ? speakers[i - 1] : { turns: [], peaks: result.peaks };
      this.drawTrack(track, content, overlaps);
    });
    $('tracks').replaceChildren(...this.tracks.map(track => track.element));
    $('position').max = seconds;
    this.zoom = 1;
    $('diarization').hidden = false;
    this.zoomBy(1);
    this.refresh();
  }

  drawTrack(track, { turns, peaks }, overlaps) {
    const toPercent = time => (100 * time) / this.seconds;
    const makeBox = ([start, end], y, height, attributes) =>
      makeSvg('rect', { x: toPercent(start), y, width: toPercent(end - start), height, ...attributes });
    const svg = makeSvg('svg', { viewBox: '0 0 100 100', preserveAspectRatio: 'none', 'aria-hidden': 'true' },
      ...turns.map(turn => makeBox(turn, 3, 94, { fill: track.colour, class: 'turn' })),
      makeSvg('polygon', { points: outlinePoints(peaks), fill: track.colour, class: 'outline' }),
      ...overlaps.map(span => makeBox(span, 0, 100, { class: 'overlap' })));
    track.playhead = make('div', { className: 'playhead' });
    track.waveform.append(svg, track.playhead);
    track.waveform.addEventListener('click', event => {
      const { left, width } = track.waveform.getBoundingClientRect();
      this.player.seek(((event.clientX - left) / width) * this.seconds);
    });
    track.viewport.addEventListener('wheel', event => {
      const distance = event.shiftKey ? event.deltaY : event.deltaX;
      if (!distance || this.zoom === 1) return;
      event.preventDefault();
      $('scroller').scrollLeft += distance;
    }, { passive: false });
  }

  refresh() {
    const { position, playing } = this.player;
    $('play').textContent = playing ? 'Pause' : 'Play';
    $('clock').textContent = `${clock(position)} / ${clock(this.seconds)}`;
    $('position').value = position;
    $('position').setAttribute('aria-valuetext', `${clock(position)} of ${clock(this.seconds)}`);
    for (const track of this.tracks ?? []) {
      track.playhead.style.left = `${(100 * position) / this.seconds}%`;
      track.refresh();
    }
    if (playing) this.keepPlayheadVisible();
  }

  keepPlayheadVisible() {
    const scroller = $('scroller'), x = (scroller.scrollWidth * this.player.position) / this.seconds;
    if (x < scroller.scrollLeft || x > scroller.scrollLeft + scroller.clientWidth) scroller.scrollLeft = x - 20;
  }

  zoomBy(factor) {
    const scroller = $('scroller'), shortest = Math.max(4, this.seconds / 200);
    const largest = Math.max(1, 2 ** Math.ceil(Math.log2(this.seconds / shortest)));
    this.zoom = Math.min(Math.max(1, this.zoom * factor), largest);
    for (const track of this.tracks) track.waveform.style.width = `${100 * this.zoom}%`;
    const ticks = $('ticks'), maxTicks = Math.max(1, Math.floor((scroller.clientWidth * this.zoom) / 70));
    const step = TICK_SECONDS.find(seconds => seconds >= this.seconds / maxTicks) ?? 7200;
    ticks.style.width = `${100 * this.zoom}%`;
    ticks.replaceChildren();
    for (let time = step; time < this.seconds - step / 3; time += step) {
      const mark = make('span', {}, clock(time));
      mark.style.left = `${(100 * time) / this.seconds}%`;
      ticks.append(mark);
    }
    // Uses aria-disabled, because a disabled button loses the keyboard focus.
    $('zoom-out').setAttribute('aria-disabled', this.zoom === 1);
    $('zoom-in').setAttribute('aria-disabled', this.zoom * shortest >= this.seconds);
    scroller.scrollLeft = (this.player.position / this.seconds) * scroller.scrollWidth - scroller.clientWidth / 2;
    this.scrollTracks();
  }

  scrollTracks() {
    const { scrollLeft } = $('scroller');
    for (const track of this.tracks ?? []) track.viewport.scrollLeft = scrollLeft;
  }

  togglePlayback() {
    if (this.player.playing) this.player.pause();
    else this.player.play();
  }

  handleKey(event) {
    const inControl = event.target.closest('button, input, select, a, dialog, textarea, .scroller');
    if (!this.player || event.ctrlKey || event.metaKey || event.altKey || inControl) return;
    const action = {
      ' ': () => this.togglePlayback(),
      ArrowLeft: () => this.player.seek(this.player.position - JUMP_SECONDS),
      ArrowRight: () => this.player.seek(this.player.position + JUMP_SECONDS),
      '+': () => this.zoomBy(2),
      '-': () => this.zoomBy(0.5),
    }[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  }

  close() {
    this.player?.close();
    this.player = null;
    this.tracks = null;
    $('diarization').hidden = true;
  }
}
