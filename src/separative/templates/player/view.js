// The player of a diarized recording: a lane for the recording and for each speaker, playback, zoom and the turns.

import { clock, make } from './dom.js';
import { Player } from './player.js';
import { TurnList, listRows } from './turns.js';
import { Waveform, activeSpans } from './waveform.js';

// Seconds between the marks of the time axis.
const TICK_SECONDS = [1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600];
// Seconds that an arrow key moves the position.
const JUMP_SECONDS = 5;
const SPEEDS = [0.5, 0.75, 1, 1.25, 1.5, 2];

function makeButton(text, label, className, onClick) {
  const button = make('button', { type: 'button', className }, text);
  if (label) button.setAttribute('aria-label', label);
  button.addEventListener('click', onClick);
  return button;
}

export class View {
  // onChoose is called with a row of the list of turns, or null; onLost if the recording cannot be loaded.
  constructor(container, { onChoose = () => {}, onLost = () => {} } = {}) {
    Object.assign(this, { onChoose, onLost, player: null, lanes: [], zoom: 1 });
    this.play = makeButton('Play', '', 'main play', () => this.togglePlayback());
    this.clock = make('output', { className: 'clock' }, '0:00');
    this.speed = make('select', {}, ...SPEEDS.map(speed =>
      make('option', { value: speed, selected: speed === 1 }, `${speed} ×`)));
    this.speed.addEventListener('change', () => this.player?.setRate(Number(this.speed.value)));
    this.volume = make('input', { type: 'range', min: 0, max: 1, step: 0.05, value: 1, className: 'volume' });
    this.volume.addEventListener('input', () => this.player?.setVolume(Number(this.volume.value)));
    this.zoomOut = makeButton('−', 'Zoom out', 'zoom-out', () => this.zoomBy(0.5));
    this.zoomIn = makeButton('+', 'Zoom in', 'zoom-in', () => this.zoomBy(2));
    this.list = make('ol', { className: 'lanes' });
    this.ticks = make('div', { className: 'ticks' });
    this.scroller = make('div', { className: 'scroller', tabIndex: 0 }, this.ticks);
    this.scroller.setAttribute('role', 'group');
    this.scroller.setAttribute('aria-label', 'Time axis');
    this.scroller.addEventListener('scroll', () => this.scrollLanes());
    this.position = make('input', { type: 'range', min: 0, step: 0.1, value: 0, className: 'position' });
    this.position.setAttribute('aria-label', 'Position');
    this.position.addEventListener('input', () => this.player?.seek(Number(this.position.value)));
    this.turns = new TurnList(row => this.choose(row));
    this.tools = make('div', { className: 'turn-tools' });
    container.replaceChildren(
      make('div', { className: 'row controls' }, this.play, this.clock,
        make('label', { className: 'row compact' }, make('span', { className: 'hint' }, 'Speed'), this.speed),
        make('label', { className: 'row compact' }, make('span', { className: 'hint' }, 'Volume'), this.volume),
        make('span', { className: 'row compact push-right' }, this.zoomOut, this.zoomIn)),
      this.turns.now, this.list,
      make('div', { className: 'time-axis' }, this.scroller, this.position),
      this.tools, this.turns.element);
    addEventListener('resize', () => { if (this.player) this.zoomBy(1); });
    document.addEventListener('keydown', event => this.handleKey(event));
  }

  // Shows a recording: { seconds, audio, peaks, facts, speakers, transcript, fetchPeaks, lane }. A speaker has id, name,
  // title, facts, colour, turns, audio and peaks, and may have extra elements. Without audio, there is nothing to play;
  // with lane set to false, the recording has no lane. If it is shown again with other speakers, the position stays.
  show(recording) {
    const { seconds, speakers } = recording, same = this.player && this.source === recording.audio;
    if (same) this.player.setSpeakers(speakers);
    else {
      this.close();
      this.source = recording.audio;
      this.player = new Player(recording.audio, speakers, seconds, () => this.refresh(), this.onLost);
      this.player.setRate(Number(this.speed.value));
      this.player.setVolume(Number(this.volume.value));
      this.zoom = 1;
    }
    this.seconds = seconds;
    for (const lane of this.lanes) lane.waveform.close();
    const overlaps = activeSpans(speakers, 2), mixture = {
      id: 0, title: 'Recording', facts: recording.facts, colour: 'var(--soft)', turns: [], peaks: recording.peaks,
    };
    this.play.hidden = !recording.audio && !speakers.some(speaker => speaker.audio);
    this.lanes = [...(recording.lane === false ? [] : [mixture]), ...speakers].map(speaker => this.makeLane(speaker, overlaps, recording.fetchPeaks));
    this.list.replaceChildren(...this.lanes.map(lane => lane.element));
    this.turns.show(listRows(speakers, recording.transcript));
    this.position.max = seconds;
    this.drawScale();
    this.refresh();
  }

  makeLane(speaker, overlaps, fetchPeaks) {
    const chip = make('span', { className: 'chip' });
    chip.style.background = speaker.colour;
    chip.setAttribute('aria-hidden', 'true');
    const fetchOwn = fetchPeaks && ((...part) => fetchPeaks(speaker.id, ...part));
    const waveform = new Waveform(speaker.colour, speaker.turns, overlaps, speaker.peaks, this.seconds, fetchOwn);
    const viewport = make('div', { className: 'viewport' }, waveform.element);
    waveform.element.addEventListener('click', event => {
      const { left, width } = waveform.element.getBoundingClientRect();
      const time = ((event.clientX - left) / width) * this.seconds;
      this.player.seek(time);
      this.choose(this.turns.rows.find(row =>
        row.speaker?.id === speaker.id && row.start <= time && time <= row.end) ?? null, false);
    });
    viewport.addEventListener('wheel', event => {
      const distance = event.shiftKey ? event.deltaY : event.deltaX;
      if (!distance || this.zoom === 1) return;
      event.preventDefault();
      this.scroller.scrollLeft += distance;
    }, { passive: false });
    const buttons = make('div', { className: 'lane-buttons' });
    const lane = { speaker, waveform, viewport };
    if (speaker.audio) {
      lane.solo = makeButton('Solo', `Solo ${speaker.title}`, 'solo small', () => this.player.toggleSolo(speaker.id));
      lane.mute = makeButton('Mute', `Mute ${speaker.title}`, 'mute small', () => this.player.toggleMute(speaker.id));
      buttons.append(lane.solo, lane.mute);
    }
    buttons.append(...(speaker.buttons ?? []));
    lane.element = make('li', { className: 'lane' },
      make('div', { className: 'lane-info' },
        make('div', { className: 'lane-head' }, make('h3', {}, chip, make('span', { className: 'lane-name' }, speaker.title)), buttons),
        make('p', { className: 'hint facts' }, speaker.facts ?? ''), ...(speaker.extra ?? [])),
      viewport);
    return lane;
  }

  // Chooses a turn: marks it and shows what can be done with it.
  choose(row, seek = true) {
    for (const other of this.turns.rows) other.button.classList.toggle('chosen', other === row);
    if (row && seek) this.player.seek(row.start + 0.001);
    this.chosen = row;
    this.onChoose(row);
  }

  refresh() {
    const { position, playing } = this.player;
    this.play.textContent = playing ? 'Pause' : 'Play';
    this.clock.textContent = `${clock(position)} / ${clock(this.seconds)}`;
    this.position.value = position;
    this.position.setAttribute('aria-valuetext', `${clock(position)} of ${clock(this.seconds)}`);
    for (const { speaker, waveform, element, solo, mute } of this.lanes) {
      waveform.playhead.style.left = `${(100 * position) / this.seconds}%`;
      const { player } = this;
      element.classList.toggle('quiet', speaker.id ? !player.isAudible(speaker.id) : !player.playsMixture);
      solo?.setAttribute('aria-pressed', player.soloed.has(speaker.id));
      mute?.setAttribute('aria-pressed', player.muted.has(speaker.id));
    }
    this.turns.follow(position, playing);
    if (playing) this.keepPlayheadVisible();
  }

  keepPlayheadVisible() {
    const { scroller } = this, x = (scroller.scrollWidth * this.player.position) / this.seconds;
    if (x < scroller.scrollLeft || x > scroller.scrollLeft + scroller.clientWidth) scroller.scrollLeft = x - 20;
  }

  get shortest() { return Math.min(this.seconds, Math.max(2, this.seconds / 400)); }

  zoomBy(factor) {
    const largest = Math.max(1, 2 ** Math.ceil(Math.log2(this.seconds / this.shortest)));
    this.zoom = Math.min(Math.max(1, this.zoom * factor), largest);
    this.drawScale();
    const { scroller } = this;
    scroller.scrollLeft = (this.player.position / this.seconds) * scroller.scrollWidth - scroller.clientWidth / 2;
    this.scrollLanes();
  }

  drawScale() {
    const { ticks, scroller } = this;
    for (const { waveform } of this.lanes) waveform.element.style.width = `${100 * this.zoom}%`;
    const maxTicks = Math.max(1, Math.floor((scroller.clientWidth * this.zoom) / 70));
    const step = TICK_SECONDS.find(seconds => seconds >= this.seconds / maxTicks) ?? 7200;
    ticks.style.width = `${100 * this.zoom}%`;
    ticks.replaceChildren();
    for (let time = step; time < this.seconds - step / 3; time += step) {
      const mark = make('span', {}, clock(time));
      mark.style.left = `${(100 * time) / this.seconds}%`;
      ticks.append(mark);
    }
    // Uses aria-disabled, because a disabled button loses the keyboard focus.
    this.zoomOut.setAttribute('aria-disabled', this.zoom === 1);
    this.zoomIn.setAttribute('aria-disabled', this.zoom * this.shortest >= this.seconds);
    this.scrollLanes();
  }

  scrollLanes() {
    const { scrollLeft, scrollWidth, clientWidth } = this.scroller;
    if (!this.player || !clientWidth) return;
    const toTime = x => (x / Math.max(1, scrollWidth)) * this.seconds;
    for (const lane of this.lanes) {
      lane.viewport.scrollLeft = scrollLeft;
      lane.waveform.draw(toTime(scrollLeft), toTime(scrollLeft + clientWidth), clientWidth);
    }
  }

  togglePlayback() {
    if (this.player.playing) this.player.pause();
    else this.player.play();
  }

  handleKey(event) {
    const inControl = event.target.closest?.('button, input, select, a, dialog, textarea, summary, .scroller, .turn-list');
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
    for (const lane of this.lanes) lane.waveform.close();
    this.lanes = [];
    this.player?.close();
    this.player = null;
  }
}
