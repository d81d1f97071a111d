/** Says once that what the API answers from is old: a list of machines that is wrong should not look right. */
const oldMs = 10_000;

export function warnOfAge(say: (text: string) => void): (ageMs: number) => void {
  let isSaid = false;
  return (ageMs) => {
    if (isSaid || ageMs <= oldMs) return;
    isSaid = true;
    const age = Number.isFinite(ageMs)
      ? `is ${Math.round(ageMs / 1000)} s old`
      : "has never been compared with the bus";
    say(`hearth: warning: the API has lost its bus, and what it says ${age}; \`hearth doctor\` says more.`);
  };
}
