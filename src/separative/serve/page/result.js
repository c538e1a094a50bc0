// A diarized recording on the page: player, corrections, downloads and transcript.

import { request, sendFile } from './api.js';
import { $, clock, count, make, percent, showText } from './dom.js';
import { enrolled, showGallery } from './gallery.js';
import { describeIdentity, title } from './identity.js';
import { chooseColours } from './memory.js';
import { openSpeaker } from './speaker.js';
import { View } from './view.js';
import { activeSpans, totalLength } from './waveform.js';

// Formats of the downloads, by what people do with them.
const FORMATS = {
  json: 'JSON: everything', rttm: 'RTTM: diarization tools', csv: 'CSV: spreadsheets', srt: 'SRT: subtitles',
  vtt: 'WebVTT: subtitles on the web', audacity: 'Audacity labels', textgrid: 'TextGrid: Praat', eaf: 'EAF: ELAN',
};
const TRANSCRIPTS = { txt: 'Text', srt: 'SRT', vtt: 'WebVTT', json: 'JSON' };
const MAX_TRANSCRIPT_BYTES = 8 << 20;

export class Result {
  // onChange is called after the result of the item has changed; recount(item, speakers) starts a new diarization.
  constructor({ onChange, recount }) {
    Object.assign(this, { onChange, recount, item: null });
    this.view = new View($('player'), {
      onChoose: row => this.showTools(row),
      onLost: () => showText($('result-error'), 'The server no longer has this recording. Upload it again.'),
    });
    $('undo').addEventListener('click', () => this.correct({ action: 'undo' }, 'Undone'));
    $('recount').addEventListener('click', () => this.changeCount());
    $('transcript').addEventListener('change', () => {
      const [file] = $('transcript').files;
      if (file) this.addTranscript(file);
      $('transcript').value = '';
    });
  }

  // While a recording is diarized again, the earlier result is shown.
  get path() { return `api/jobs/${this.item.before?.job ?? this.item.job}`; }

  show(item) {
    this.item = item;
    showText($('result-error'), '');
    $('diarization').hidden = false;
    $('diarization-title').textContent = item.name;
    $('recount-number').value = item.result.asked ?? '';
    this.refresh();
    this.identify();
  }

  hide() {
    this.item = null;
    this.view.close();
    $('diarization').hidden = true;
  }

  refresh() {
    const { result } = this.item, { speakers, seconds } = result, { path } = this;
    const colours = chooseColours(speakers);
    const speech = totalLength(activeSpans(speakers, 1)), overlap = totalLength(activeSpans(speakers, 2));
    $('summary').textContent = [
      speakers.length ? count(speakers.length, 'speaker', 'speakers') : 'no speech found', clock(seconds),
      ...(speech ? [`${percent(overlap / speech)} of the speech overlaps`] : []),
      ...result.unlike_training,
      ...(result.damage ? [`the file is damaged: ${result.damage}`] : []),
    ].join(' · ');
    $('undo').hidden = !result.corrections;
    $('undo').textContent = `Undo (${result.corrections})`;
    this.view.show({
      seconds,
      audio: `${path}/mixture.wav`,
      peaks: result.peaks,
      facts: 'Solo or mute speakers to play them separately',
      transcript: result.transcript,
      fetchPeaks: (id, start, end, points, signal) => request('GET',
        `${path}/peaks?speaker=${id}&start=${start}&end=${end}&count=${points}`, undefined, signal),
      speakers: speakers.map(speaker => this.describe(speaker, colours.get(speaker.number))),
    });
    this.showDownloads();
    this.showTools(null);
  }

  describe(speaker, colour) {
    const { speakers } = this.item.result, heading = title(speaker);
    const edit = make('button', { type: 'button', className: 'small edit' }, 'Edit');
    edit.setAttribute('aria-label', `Edit ${heading}`);
    edit.addEventListener('click', () => openSpeaker(this, speaker));
    return {
      id: speaker.number,
      name: speaker.name,
      title: heading,
      facts: `${speaker.speech_seconds.toFixed(1)} s in ${count(speaker.turns.length, 'turn', 'turns')}`,
      colour: `var(--speaker${colour})`,
      turns: speaker.turns,
      confidence: speaker.confidence,
      peaks: speaker.peaks,
      audio: `${this.path}/speakers/${speaker.number}.wav?version=${speaker.audio}`,
      buttons: [edit],
      extra: [make('p', { className: 'identity' }, describeIdentity(speaker, speakers))],
    };
  }

  // Replaces the result after a change on the server.
  update(result) {
    const { item } = this;
    item.result = result;
    if (item.before) item.before.result = result;
    this.refresh();
    if (!item.before) this.onChange(item);
  }

  // Makes a correction; resolves to an error message, which is empty after success.
  async correct(body, done) {
    const { item } = this;
    try {
      const result = await request('POST', `${this.path}/corrections`, { revision: item.result.revision, ...body });
      if (item !== this.item) return '';
      this.update(result);
      $('status').textContent = done;
      showText($('result-error'), '');
      if ($('undo').hidden) $('diarization-title').focus({ preventScroll: true });
      return '';
    } catch (error) {
      if (body.action !== 'rename') showText($('result-error'), error.message);
      return error.message;
    }
  }

  // Identifies the speakers again, after the gallery has changed.
  async identify() {
    const { item } = this;
    if (!item) return;
    try {
      const result = await request('POST', `${this.path}/identify`);
      if (item === this.item && result.revision !== item.result.revision) this.update(result);
    } catch {
      // The identities stay as they are.
    }
  }

  // Called after a speaker was enrolled.
  async enrolled() {
    await showGallery();
    await this.identify();
  }

  async changeCount() {
    const value = $('recount-number').value;
    try {
      showText($('result-error'), '');
      await this.recount(this.item, value ? Number(value) : null);
    } catch (error) {
      showText($('result-error'), error.message);
    }
  }

  async addTranscript(file) {
    if (file.size > MAX_TRANSCRIPT_BYTES) {
      showText($('result-error'), `${file.name} is too large for a transcript. At most 8 MB are allowed.`);
      return;
    }
    try {
      this.update(await sendFile(`${this.path}/transcript?name=${encodeURIComponent(file.name)}`, file));
      showText($('result-error'), '');
      $('status').textContent = `Added ${file.name}`;
    } catch (error) {
      showText($('result-error'), error.message);
    }
  }

  // What can be done with the chosen turn.
  showTools(row) {
    const { tools } = this.view;
    if (!row?.speaker) {
      tools.replaceChildren();
      return;
    }
    const { speakers } = this.item.result, { speaker, turn } = row, body = { speaker: speaker.id, turn: turn + 1 };
    const choice = make('select', {}, make('option', { value: '', selected: true }, 'choose …'),
      ...speakers.filter(other => other.number !== speaker.id)
        .map(other => make('option', { value: other.number }, title(other))),
      make('option', { value: 'new' }, 'a new speaker'));
    choice.addEventListener('change', () => {
      const to = choice.value === 'new' ? null : Number(choice.value);
      if (choice.value) this.correct({ action: 'assign', ...body, to }, `Turn given to ${choice.selectedOptions[0].text}`);
    });
    const split = make('button', { type: 'button', className: 'small split' }, 'Split at the playhead');
    split.addEventListener('click', () =>
      this.correct({ action: 'split', ...body, at: this.view.player.position }, 'Turn split'));
    tools.replaceChildren(
      make('span', {}, `Turn of ${speaker.title}, ${clock(row.start)} to ${clock(row.end)}`),
      make('label', { className: 'row compact' }, 'Give to', choice), split);
  }

  showDownloads() {
    const { path } = this, { transcript } = this.item.result;
    const link = (href, text) => make('a', { className: 'button small', href: `${path}/${href}?save=true`, download: '' }, text);
    $('downloads').replaceChildren(link('mixture.wav', 'WAV: the recording'),
      ...Object.entries(FORMATS).map(([format, text]) => link(`meeting.${format}`, text)),
      ...(transcript ? Object.entries(TRANSCRIPTS).map(([format, text]) =>
        link(`transcript.${format}`, `Transcript: ${text}`)) : []));
  }

  isEnrolled(name) { return enrolled.has(name); }
}
