// The microphone as a WAV file: browsers' own recorders write WebM, which the server does not read.

const WHY = {
  NotAllowedError: 'the browser does not let this page use the microphone',
  NotFoundError: 'no microphone was found',
  NotReadableError: 'the microphone is in use by something else',
};

// Begins at once; report(seconds, level from 0 to 1, bytes of the file) while it goes.
export async function record(report) {
  if (!navigator.mediaDevices || !window.AudioWorkletNode) {
    throw new Error('recording needs a page from this machine (localhost) or over https');
  }
  // As it is: what makes telephony pleasant changes voices.
  const wanted = { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false };
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ audio: wanted });
  } catch (error) {
    throw new Error(WHY[error.name] ?? `the microphone cannot be used (${error.message})`);
  }
  const context = new AudioContext();
  const close = () => {
    stream.getTracks().forEach(track => track.stop());
    return context.close();
  };
  try {
    await context.audioWorklet.addModule('tap.js');
  } catch (error) {
    await close();
    throw error;
  }
  const source = context.createMediaStreamSource(stream), tap = new AudioWorkletNode(context, 'tap');
  // Nothing is heard of it; but what leads nowhere may not run.
  const silent = new GainNode(context, { gain: 0 });
  source.connect(tap).connect(silent).connect(context.destination);
  const pieces = [];
  let samples = 0, ended;
  const all = new Promise(resolve => { ended = resolve; });
  tap.port.onmessage = ({ data }) => {
    if (data === 'end') return ended();
    pieces.push(data);
    samples += data.length;
    const level = data.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
    report(samples / context.sampleRate, level, 44 + 2 * samples);
  };
  await context.resume();
  return {
    async stop() {
      tap.port.postMessage('stop');
      await all;
      await close();
      return wav(pieces, samples, context.sampleRate);
    },
    discard: close,
  };
}

// One channel, 16 bits.
export function wav(pieces, samples, rate) {
  const view = new DataView(new ArrayBuffer(44 + 2 * samples));
  const text = (place, words) => [...words].forEach((c, i) => view.setUint8(place + i, c.charCodeAt(0)));
  text(0, 'RIFF');
  view.setUint32(4, 36 + 2 * samples, true);
  text(8, 'WAVEfmt ');
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true);
  view.setUint16(22, 1, true);
  view.setUint32(24, rate, true);
  view.setUint32(28, 2 * rate, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  text(36, 'data');
  view.setUint32(40, 2 * samples, true);
  let place = 44;
  for (const piece of pieces) {
    for (const x of piece) {
      view.setInt16(place, Math.round(32767 * Math.max(-1, Math.min(1, x))), true);
      place += 2;
    }
  }
  return new Blob([view], { type: 'audio/wav' });
}
