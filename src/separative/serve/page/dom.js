// Small things for making and filling elements. Text goes in as text, never as markup.

export const $ = id => document.getElementById(id);

export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

export function draw(tag, attributes = {}, ...children) {
  const element = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

export function clock(seconds) {
  const whole = Math.floor(seconds + 1e-6), two = number => String(number).padStart(2, '0');
  const minutes = Math.floor(whole / 60);
  return minutes < 60 ? `${minutes}:${two(whole % 60)}`
    : `${Math.floor(minutes / 60)}:${two(minutes % 60)}:${two(whole % 60)}`;
}

// Certainty is never rounded up to.
export function percent(share) {
  if (share > 0.995 && share < 1) return 'over 99\u00a0%';
  if (share < 0.005 && share > 0) return 'under 1\u00a0%';
  return `${Math.round(100 * share)}\u00a0%`;
}

export const signed = (number, places) => number.toFixed(places).replace('-', '−');

export const count = (number, one, many) => `${number} ${number === 1 ? one : many}`;

export function tell(element, text) {
  element.textContent = text;
  element.hidden = !text;
}

export function enable(yes, ids) {
  for (const id of ids) $(id).disabled = !yes;
}

// Asks in a dialog; resolves to true or false.
export function sure(words, yes) {
  const dialog = $('sure');
  $('sure-words').textContent = words;
  $('sure-yes').textContent = yes;
  return new Promise(resolve => {
    let answer = false;
    $('sure-yes').onclick = () => { answer = true; dialog.close(); };
    $('sure-no').onclick = () => dialog.close();
    dialog.onclose = () => resolve(answer);
    dialog.showModal();
    $('sure-no').focus();
  });
}
