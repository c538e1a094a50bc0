// Mixture and voices in step: one sound element a lane, the first of which keeps the time.

const APART = 0.08;

export class Player {
  constructor(sources, seconds, changed, lost) {
    this.seconds = seconds;
    this.changed = changed;
    this.at = 0;
    this.sounds = sources.map((source, number) => {
      const sound = new Audio(source);
      sound.preload = 'metadata';
      // At first the mixture is heard, and no voice.
      sound.muted = number > 0;
      return sound;
    });
    const leader = this.sounds[0];
    leader.addEventListener('ended', () => { this.pause(); this.seek(0); });
    // The server has removed it, or is gone.
    leader.addEventListener('error', () => { if (leader.src) lost(); });
    this.tick = this.tick.bind(this);
  }

  get playing() { return !this.sounds[0].paused; }

  heard(number) { return !this.sounds[number].muted; }

  // Any number of lanes may be heard.
  mute(number, muted) {
    this.sounds[number].muted = muted;
    this.gather();
    this.changed();
  }

  alone(number) {
    this.sounds.forEach((sound, other) => { sound.muted = other !== number; });
    this.gather();
    this.changed();
  }

  isAlone(number) { return this.sounds.every((sound, other) => sound.muted === (other !== number)); }

  async play() {
    if (this.at >= this.seconds - 0.05) this.at = 0;
    this.sounds[0].currentTime = this.at;
    try {
      await this.sounds[0].play();
    } catch {
      return;
    }
    this.gather();
    this.changed();
    requestAnimationFrame(this.tick);
  }

  pause() {
    this.sounds.forEach(sound => sound.pause());
    this.changed();
  }

  seek(seconds) {
    this.at = Math.min(Math.max(0, seconds), this.seconds);
    this.sounds[0].currentTime = this.at;
    this.gather();
    this.changed();
  }

  // Those who are heard play where the leader is; the others rest.
  gather() {
    const leader = this.sounds[0];
    for (const sound of this.sounds.slice(1)) {
      if (!this.playing || sound.muted) sound.pause();
      else {
        if (Math.abs(sound.currentTime - leader.currentTime) > APART) sound.currentTime = leader.currentTime;
        if (sound.paused) sound.play().catch(() => {});
      }
    }
  }

  tick() {
    if (!this.playing) return;
    this.at = this.sounds[0].currentTime;
    this.gather();
    this.changed();
    requestAnimationFrame(this.tick);
  }

  close() {
    for (const sound of this.sounds) {
      sound.pause();
      sound.removeAttribute('src');
      sound.load();
    }
  }
}
