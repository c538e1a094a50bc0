// Runs beside the sound card: hands over what the microphone hears, a tenth of a second or so at a time.

class Tap extends AudioWorkletProcessor {
  constructor() {
    super();
    this.kept = new Float32Array(4096);
    this.held = 0;
    this.open = true;
    this.port.onmessage = () => {
      this.port.postMessage(this.kept.slice(0, this.held));
      this.port.postMessage('end');
      this.open = false;
    };
  }

  process([[channel]]) {
    if (channel && this.open) {
      this.kept.set(channel, this.held);
      this.held += channel.length;
      if (this.held + channel.length > this.kept.length) {
        this.port.postMessage(this.kept.slice(0, this.held));
        this.held = 0;
      }
    }
    return this.open;
  }
}

registerProcessor('tap', Tap);
