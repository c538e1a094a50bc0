// Audio worklet: passes on the samples of the microphone in blocks of about a tenth of a second.

class Capture extends AudioWorkletProcessor {
  constructor() {
    super();
    this.block = new Float32Array(4096);
    this.length = 0;
    this.active = true;
    // Any message ends the recording: send the rest of the samples, then 'end'.
    this.port.onmessage = () => {
      this.port.postMessage(this.block.slice(0, this.length));
      this.port.postMessage('end');
      this.active = false;
    };
  }

  process([[channel]]) {
    if (channel && this.active) {
      this.block.set(channel, this.length);
      this.length += channel.length;
      if (this.length + channel.length > this.block.length) {
        this.port.postMessage(this.block.slice(0, this.length));
        this.length = 0;
      }
    }
    return this.active;
  }
}

registerProcessor('capture', Capture);
