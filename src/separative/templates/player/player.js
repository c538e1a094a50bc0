// Plays a recording and the waveforms of its speakers in sync: one audio element each; the recording keeps the time.

// Seconds by which an element may lag or lead before it is moved.
const MAX_DRIFT = 0.08;

export class Player {
  // Speakers have an id and the address of their audio. onLost is called if the recording cannot be loaded. Without the
  // recording, all speakers play.
  constructor(mixture, speakers, seconds, onChange, onLost) {
    Object.assign(this, { seconds, onChange, position: 0, rate: 1, volume: 1 });
    // As on a mixing desk: soloed speakers only, or all speakers that are not muted. With neither, the recording.
    this.soloed = new Set();
    this.muted = new Set();
    this.tracks = new Map();
    this.hasMixture = Boolean(mixture);
    this.leader = this.load(mixture || speakers.find(speaker => speaker.audio)?.audio || '');
    this.leader.addEventListener('ended', () => { this.pause(); this.seek(0); });
    this.leader.addEventListener('error', () => { if (this.leader.src) onLost(); });
    this.tick = this.tick.bind(this);
    this.setSpeakers(speakers);
  }

  load(source) {
    const element = source ? new Audio(source) : new Audio();
    element.preload = 'metadata';
    return element;
  }

  // Replaces the speakers. Those with the same audio play on.
  setSpeakers(speakers) {
    const before = this.tracks;
    this.tracks = new Map(speakers.filter(speaker => speaker.audio).map(({ id, audio }) => {
      const old = before.get(id);
      if (old?.audio === audio) {
        before.delete(id);
        return [id, old];
      }
      return [id, { audio, element: this.load(audio) }];
    }));
    for (const { element } of before.values()) unload(element);
    for (const set of [this.soloed, this.muted]) for (const id of set) if (!this.tracks.has(id)) set.delete(id);
    this.synchronise();
  }

  get playing() { return !this.leader.paused; }

  // True if the recording itself is played, not the waveforms of its speakers.
  get playsMixture() { return this.hasMixture && !this.soloed.size && !this.muted.size; }

  isAudible(id) {
    return this.playsMixture || ((!this.soloed.size || this.soloed.has(id)) && !this.muted.has(id));
  }

  toggleSolo(id) { this.toggle(this.soloed, id); }

  toggleMute(id) { this.toggle(this.muted, id); }

  toggle(set, id) {
    if (!set.delete(id)) set.add(id);
    this.synchronise();
    this.onChange();
  }

  setRate(rate) {
    this.rate = rate;
    this.synchronise();
  }

  setVolume(volume) {
    this.volume = volume;
    this.synchronise();
  }

  async play() {
    if (this.position >= this.seconds - 0.05) this.position = 0;
    this.leader.currentTime = this.position;
    try {
      await this.leader.play();
    } catch {
      return;
    }
    this.synchronise();
    this.onChange();
    requestAnimationFrame(this.tick);
  }

  pause() {
    this.leader.pause();
    for (const { element } of this.tracks.values()) element.pause();
    this.onChange();
  }

  seek(seconds) {
    this.position = Math.min(Math.max(0, seconds), this.seconds);
    this.leader.currentTime = this.position;
    this.synchronise();
    this.onChange();
  }

  // Audible speakers play at the position of the recording; the others pause.
  synchronise() {
    const { leader } = this;
    leader.muted = !this.playsMixture;
    for (const element of [leader, ...[...this.tracks.values()].map(track => track.element)]) {
      element.volume = this.volume;
      if (element.playbackRate !== this.rate) element.playbackRate = this.rate;
    }
    for (const [id, { element }] of this.tracks) {
      if (!this.playing || this.playsMixture || !this.isAudible(id)) element.pause();
      else {
        if (Math.abs(element.currentTime - leader.currentTime) > MAX_DRIFT) element.currentTime = leader.currentTime;
        if (element.paused) element.play().catch(() => {});
      }
    }
  }

  tick() {
    if (!this.playing) return;
    this.position = this.leader.currentTime;
    this.synchronise();
    this.onChange();
    requestAnimationFrame(this.tick);
  }

  close() {
    for (const { element } of [{ element: this.leader }, ...this.tracks.values()]) unload(element);
  }
}

function unload(element) {
  element.pause();
  element.removeAttribute('src');
  element.load();
}
