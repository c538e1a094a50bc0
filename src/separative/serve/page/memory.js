// What this browser remembers for the page: its recordings on the server, and the colours of people.

const KEY = `separative ${location.pathname}`;
const COLOURS = 8;

function read(name, empty) {
  try {
    return JSON.parse(localStorage.getItem(`${KEY} ${name}`)) ?? empty;
  } catch {
    return empty;
  }
}

function write(name, value) {
  try {
    localStorage.setItem(`${KEY} ${name}`, JSON.stringify(value));
  } catch {
    // A browser may forbid it. The page then works until it is closed.
  }
}

// Recordings: [{ job, recording, name }], and the job that was shown last.
export const remembered = () => read('recordings', []);
export const remember = recordings => write('recordings', recordings);
export const lastShown = () => read('shown', null);
export const rememberShown = job => write('shown', job);

// Colours of speakers, from 1. A person keeps their colour from one recording to the next, unless another speaker of the
// recording has it.
export function chooseColours(speakers) {
  const known = read('colours', {}), used = new Set(), colours = new Map();
  const uses = colour => Object.values(known).filter(other => other === colour).length;
  const free = () => {
    const all = Array.from({ length: COLOURS }, (_, i) => i + 1), left = all.filter(colour => !used.has(colour));
    return (left.length ? left : all).sort((a, b) => uses(a) - uses(b) || a - b)[0];
  };
  const give = (speaker, colour) => {
    used.add(colour);
    colours.set(speaker.number, colour);
  };
  const people = speakers.filter(speaker => speaker.named), others = speakers.filter(speaker => !speaker.named);
  for (const person of people) if (person.name in known && !used.has(known[person.name])) give(person, known[person.name]);
  for (const person of people.filter(({ number }) => !colours.has(number))) {
    give(person, free());
    known[person.name] ??= colours.get(person.number);
  }
  for (const other of others) {
    const own = 1 + ((other.number - 1) % COLOURS);
    give(other, used.has(own) ? free() : own);
  }
  write('colours', known);
  return colours;
}
