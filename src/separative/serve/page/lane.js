// One lane: what it is called, whom it sounds like, hearing it alone or not at all, enrolling its speaker.

import { ask } from './api.js';
import { $, make, percent, signed } from './dom.js';

// The best answer in bold; then who else, with what remains.
function match(identity) {
  const { name, unknown, candidates } = identity;
  if (!candidates.length) return [];
  if (unknown === null) {
    const near = candidates.map(c => `${c.name} ${signed(c.score, 2)}`).join(', ');
    return [make('b', {}, name ?? 'unknown'), ` · cosines: ${near}`];
  }
  const others = [
    ...candidates.filter(c => c.name !== name).map(c => [c.name, c.probability]),
    ...(name === null ? [] : [['unknown', unknown]]),
  ].filter(([, share]) => share >= 0.005).sort((a, b) => b[1] - a[1]).slice(0, 2);
  const best = name === null ? unknown : candidates.find(c => c.name === name).probability;
  const rest = others.map(([who, share]) => `${who} ${percent(share)}`).join(', ');
  return [make('b', {}, name ?? 'unknown'), ` ${percent(best)}`, rest && ` · ${rest}`];
}

export function lane({ name, facts, colour, path, number, player, identity, enrolled }) {
  const element = $('lane').content.firstElementChild.cloneNode(true);
  const find = selector => element.querySelector(selector);
  find('.who').textContent = name;
  find('.facts').textContent = facts;
  find('.chip').style.background = colour;
  const alone = find('.alone'), mute = find('.mute'), wav = find('.wav');
  alone.addEventListener('click', () => player.alone(number));
  mute.addEventListener('click', () => player.mute(number, player.heard(number)));
  for (const [button, words] of [[alone, 'alone'], [mute, 'mute'], [wav, 'as WAV']]) {
    button.setAttribute('aria-label', `${name} ${words}`);
  }
  if (number) {
    find('.match').append(...match(identity));
    wav.href = `${path}/voices/${number}.wav?save=true`;
    enrolling(find, name, identity, `${path}/speakers/${number}/enrol`, enrolled);
  } else {
    wav.remove();
    find('.enrol').remove();
  }
  return {
    element,
    colour,
    view: find('.view'),
    track: find('.track'),
    refresh() {
      alone.setAttribute('aria-pressed', player.isAlone(number));
      mute.setAttribute('aria-pressed', !player.heard(number));
      element.classList.toggle('quiet', !player.heard(number));
    },
  };
}

function enrolling(find, speaker, identity, path, enrolled) {
  const field = find('.enrol input'), put = find('.put'), refusal = find('.refusal');
  field.setAttribute('aria-label', `Name of ${speaker.toLowerCase()}`);
  put.setAttribute('aria-label', `Enrol ${speaker.toLowerCase()}`);
  field.value = identity.name ?? '';
  const enrol = async force => {
    if (put.disabled) return;
    const name = field.value.trim();
    if (!name) {
      refusal.textContent = 'Who is it? Type a name first.';
      field.focus();
      return;
    }
    put.disabled = true;
    try {
      await ask('POST', path, { name, force });
      refusal.textContent = `Enrolled as ${name}.`;
      enrolled();
    } catch (error) {
      refusal.textContent = error.reasons ? `Not enrolled: ${error.reasons.join('; ')}. ` : error.message;
      if (error.reasons) {
        const anyway = make('button', { type: 'button', className: 'small' }, 'Enrol anyway');
        anyway.addEventListener('click', () => enrol(true));
        refusal.append(anyway);
      }
    } finally {
      put.disabled = false;
    }
  };
  put.addEventListener('click', () => enrol(false));
  field.addEventListener('keydown', event => { if (event.key === 'Enter') enrol(false); });
}
