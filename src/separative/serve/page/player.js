// Plays the mixture and the speakers' waveforms in sync: one audio element each; the first one keeps the time.

// Seconds by which an element may lag or lead before it is moved.
const MAX_DRIFT = 0.08;

export class Player {
  constructor(sources, seconds, onChange, onLost) {
    this.seconds = seconds;
    this.onChange = onChange;
    this.position = 0;
    this.tracks = sources.map((source, number) => {
      const track = new Audio(source);
      track.preload = 'metadata';
      // Only the mixture is audible at first.
      track.muted = number > 0;
      return track;
    });
    const leader = this.tracks[0];
    leader.addEventListener('ended', () => { this.pause(); this.seek(0); });
    // The server has removed the file or cannot be reached.
    leader.addEventListener('error', () => { if (leader.src) onLost(); });
    this.tick = this.tick.bind(this);
  }

  get playing() { return !this.tracks[0].paused; }

  isMuted(number) { return this.tracks[number].muted; }

  setMuted(number, muted) {
    this.tracks[number].muted = muted;
    this.synchronise();
    this.onChange();
  }

  // Mutes all other tracks.
  solo(number) {
    this.tracks.forEach((track, other) => { track.muted = other !== number; });
    this.synchronise();
    this.onChange();
  }

  isSolo(number) { return this.tracks.every((track, other) => track.muted === (other !== number)); }

  async play() {
    if (this.position >= this.seconds - 0.05) this.position = 0;
    this.tracks[0].currentTime = this.position;
    try {
      await this.tracks[0].play();
    } catch {
      return;
    }
    this.synchronise();
    this.onChange();
    requestAnimationFrame(this.tick);
  }

  pause() {
    this.tracks.forEach(track => track.pause());
    this.onChange();
  }

  seek(seconds) {
    this.position = Math.min(Math.max(0, seconds), this.seconds);
    this.tracks[0].currentTime = this.position;
    this.synchronise();
    this.onChange();
  }

  // Audible tracks play at the position of the leader; muted tracks pause.
  synchronise() {
    const leader = this.tracks[0];
    for (const track of this.tracks.slice(1)) {
      if (!this.playing || track.muted) track.pause();
      else {
        if (Math.abs(track.currentTime - leader.currentTime) > MAX_DRIFT) track.currentTime = leader.currentTime;
        if (track.paused) track.play().catch(() => {});
      }
    }
  }

  tick() {
    if (!this.playing) return;
    this.position = this.tracks[0].currentTime;
    this.synchronise();
    this.onChange();
    requestAnimationFrame(this.tick);
  }

  close() {
    for (const track of this.tracks) {
      track.pause();
      track.removeAttribute('src');
      track.load();
    }
  }
}
