// Records the microphone to a WAV file. The browsers' own recorders write WebM, which the server cannot read.

const MESSAGES = {
  NotAllowedError: 'The browser does not allow this page to use the microphone. Allow it in the site settings.',
  NotFoundError: 'No microphone was found. Connect one and try again.',
  NotReadableError: 'Another program is using the microphone. Close it and try again.',
};

// Starts a recording. Calls report(seconds, peak level from 0 to 1, bytes of the file) while it runs.
export async function record(report) {
  if (!navigator.mediaDevices || !window.AudioWorkletNode) {
    throw new Error('Recording works only on a page from this machine (localhost) or over HTTPS.');
  }
  // Processing for phone calls changes the speech, so it is switched off.
  const constraints = { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false };
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ audio: constraints });
  } catch (error) {
    throw new Error(MESSAGES[error.name] ?? `Cannot use the microphone: ${error.message}`);
  }
  const context = new AudioContext();
  const close = () => {
    stream.getTracks().forEach(track => track.stop());
    return context.close();
  };
  try {
    await context.audioWorklet.addModule('capture.js');
  } catch (error) {
    await close();
    throw error;
  }
  const source = context.createMediaStreamSource(stream), capture = new AudioWorkletNode(context, 'capture');
  // A node that is not connected to the output may not run. The gain of 0 keeps the output silent.
  const silent = new GainNode(context, { gain: 0 });
  source.connect(capture).connect(silent).connect(context.destination);
  const blocks = [];
  let samples = 0, resolveEnd;
  const ended = new Promise(resolve => { resolveEnd = resolve; });
  capture.port.onmessage = ({ data }) => {
    if (data === 'end') return resolveEnd();
    blocks.push(data);
    samples += data.length;
    const level = data.reduce((peak, sample) => Math.max(peak, Math.abs(sample)), 0);
    report(samples / context.sampleRate, level, 44 + 2 * samples);
  };
  await context.resume();
  return {
    async stop() {
      capture.port.postMessage('stop');
      await ended;
      await close();
      return encodeWav(blocks, samples, context.sampleRate);
    },
    discard: close,
  };
}

// Encodes one channel with 16 bits per sample.
export function encodeWav(blocks, samples, rate) {
  const view = new DataView(new ArrayBuffer(44 + 2 * samples));
  const setText = (offset, text) => [...text].forEach((c, i) => view.setUint8(offset + i, c.charCodeAt(0)));
  setText(0, 'RIFF');
  view.setUint32(4, 36 + 2 * samples, true);
  setText(8, 'WAVEfmt ');
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true);
  view.setUint16(22, 1, true);
  view.setUint32(24, rate, true);
  view.setUint32(28, 2 * rate, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  setText(36, 'data');
  view.setUint32(40, 2 * samples, true);
  let offset = 44;
  for (const block of blocks) {
    for (const sample of block) {
      view.setInt16(offset, Math.round(32767 * Math.max(-1, Math.min(1, sample))), true);
      offset += 2;
    }
  }
  return new Blob([view], { type: 'audio/wav' });
}
