// Functions that create, fill and format elements. Text is always inserted as text, never as HTML.

export const $ = id => document.getElementById(id);

export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

export function makeSvg(tag, attributes = {}, ...children) {
  const element = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// Seconds as m:ss or h:mm:ss.
export function clock(seconds) {
  const whole = Math.floor(seconds + 1e-6), two = number => String(number).padStart(2, '0');
  const minutes = Math.floor(whole / 60);
  return minutes < 60 ? `${minutes}:${two(whole % 60)}`
    : `${Math.floor(minutes / 60)}:${two(minutes % 60)}:${two(whole % 60)}`;
}

// Never rounds up to certainty, or down to impossibility.
export function percent(share) {
  if (share > 0.995 && share < 1) return 'over 99\u00a0%';
  if (share < 0.005 && share > 0) return 'under 1\u00a0%';
  return `${Math.round(100 * share)}\u00a0%`;
}

export const signed = (number, places) => number.toFixed(places).replace('-', '−');

export const count = (number, one, many) => `${number} ${number === 1 ? one : many}`;

// Shows a text in an element, or hides the element if the text is empty.
export function showText(element, text) {
  element.textContent = text;
  element.hidden = !text;
}

export function setEnabled(enabled, ids) {
  for (const id of ids) $(id).disabled = !enabled;
}

// Asks for confirmation in a dialog; resolves to true or false.
export function confirmAction(question, action) {
  const dialog = $('confirm');
  $('confirm-question').textContent = question;
  $('confirm-yes').textContent = action;
  return new Promise(resolve => {
    let confirmed = false;
    $('confirm-yes').onclick = () => { confirmed = true; dialog.close(); };
    $('confirm-no').onclick = () => dialog.close();
    dialog.onclose = () => resolve(confirmed);
    dialog.showModal();
    $('confirm-no').focus();
  });
}
