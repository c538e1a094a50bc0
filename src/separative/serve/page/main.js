// The page: choose, drop or record recordings, diarize them on the server, and show the results.

import { request } from './api.js';
import { setUpComparison } from './compare.js';
import { $, clock, setEnabled, showText } from './dom.js';
import { setOnChange, showGallery } from './gallery.js';
import { Queue } from './queue.js';
import { record } from './recorder.js';
import { Result } from './result.js';

const TRANSCRIPT = /\.(srt|vtt|json)$/i;
const EXAMPLE = 'example.ogg';

// The server's limits, and the running microphone recording.
let limits = null, recording = null;

const result = new Result({
  onChange: item => queue.describe(item),
  recount: (item, speakers) => queue.recount(item, speakers),
});
const queue = new Queue({
  show: item => result.show(item),
  hide: () => result.hide(),
  limits: () => limits,
  isIdle: () => !result.view.player?.playing,
});

// Queues recordings. A transcript among them goes to the recording of its name when that is shown, or to the one shown.
function addFiles(files) {
  showText($('error'), '');
  const transcripts = files.filter(file => TRANSCRIPT.test(file.name));
  const speakers = $('speaker-count').value ? Number($('speaker-count').value) : null;
  const stem = name => name.replace(/\.[^.]*$/, '').toLowerCase();
  for (const file of files.filter(file => !transcripts.includes(file))) {
    const own = transcripts.find(transcript => stem(transcript.name) === stem(file.name))
      ?? (files.length === 2 ? transcripts[0] : undefined);
    if (own) transcripts.splice(transcripts.indexOf(own), 1);
    queue.add(file, file.name, speakers, own);
  }
  for (const transcript of transcripts) {
    const item = queue.items.find(one => one.state === 'done' && stem(one.name) === stem(transcript.name)) ?? queue.shown;
    if (!item) showText($('error'), `Drop ${transcript.name} together with its recording, or show the recording first.`);
    else {
      if (item !== queue.shown) queue.show(item);
      result.addTranscript(transcript);
    }
  }
}

async function startRecording() {
  showText($('error'), '');
  // Disabled at once, so that no second recording starts while the browser asks for permission.
  setEnabled(false, ['record']);
  try {
    recording = await record((seconds, level, bytes) => {
      $('recorded').textContent = clock(seconds);
      $('level').value = level;
      if (limits && (seconds >= 60 * limits.minutes - 1 || bytes >= limits.megabytes * 1e6 - 1e5)) endRecording(true);
    });
    $('microphone').hidden = false;
    $('stop').focus();
  } catch (error) {
    setEnabled(true, ['record']);
    showText($('error'), error.message);
  }
}

async function endRecording(keep) {
  const ended = recording;
  recording = null;
  if (!ended) return;
  $('microphone').hidden = true;
  $('recorded').textContent = '0:00';
  setEnabled(true, ['record']);
  if (!keep) {
    await ended.discard();
    $('record').focus();
    return;
  }
  const time = new Date().toTimeString().slice(0, 5).replace(':', '.');
  addFiles([new File([await ended.stop()], `Recording at ${time}.wav`)]);
}

async function tryExample() {
  showText($('error'), '');
  try {
    const response = await fetch(EXAMPLE);
    if (!response.ok) throw new Error(`The example cannot be loaded (status ${response.status}). Reload the page.`);
    queue.add(await response.blob(), 'Example conversation.ogg', null);
  } catch (error) {
    showText($('error'), error.message);
  }
}

function setUpDrop() {
  const drop = $('drop');
  const highlight = event => {
    event.preventDefault();
    drop.classList.add('over');
  };
  drop.addEventListener('dragenter', highlight);
  drop.addEventListener('dragover', highlight);
  drop.addEventListener('dragleave', event => {
    if (!drop.contains(event.relatedTarget)) drop.classList.remove('over');
  });
  // A file that is dropped elsewhere on the page would replace the page.
  addEventListener('dragover', event => event.preventDefault());
  addEventListener('drop', event => {
    event.preventDefault();
    drop.classList.remove('over');
    addFiles([...event.dataTransfer.files]);
  });
}

async function showAbout() {
  const about = await request('GET', 'api/about'), { version, model } = about;
  limits = about.limits;
  const local = ['localhost', '127.0.0.1', '[::1]'].includes(location.hostname);
  const server = local ? 'the server on this computer' : `the server ${location.hostname}`;
  $('what-happens').textContent = `A file goes to ${server} and nowhere else. There it is diarized, and each speaker is`
    + ` separated. The recording and the results stay there until ${limits.keep_minutes} minutes after their last use,`
    + ' or until you remove them. Nothing about a voice is kept unless you enrol the speaker.';
  $('limits').textContent =
    `WAV, FLAC, OGG, MP3, M4A and others, up to ${limits.minutes} minutes and ${limits.megabytes} MB each.`
    + ' A transcript (SRT, WebVTT or JSON of Whisper) can come with its recording.';
  const calibration = model.calibrated_on ? `calibrated on ${model.calibrated_on}` : 'not calibrated (no probabilities)';
  $('about').textContent = `separative ${version} · model ${model.sha256.slice(0, 12)}, `
    + `${(model.parameters / 1e6).toFixed(2)} million parameters, ${model.rate / 1000} kHz, ${calibration}`;
}

$('file').addEventListener('change', () => {
  addFiles([...$('file').files]);
  $('file').value = '';
});
$('record').addEventListener('click', startRecording);
$('example').addEventListener('click', tryExample);
$('stop').addEventListener('click', () => endRecording(true));
$('discard').addEventListener('click', () => endRecording(false));
setUpDrop();
setUpComparison(() => limits);
setOnChange(() => result.identify());
showAbout().catch(error => showText($('error'), error.message));
showGallery();
queue.restore();
