/** A command line as words, by the quoting rules of POSIX shells; nothing else of a shell is done. */
import { invalid } from "../http/validation.ts";

/** @throws HearthError `invalid_argument` for a quote that is not closed */
export function splitWords(line: string): string[] {
  const words: string[] = [];
  let word: string | undefined;
  let quote: "'" | '"' | undefined;
  for (let at = 0; at < line.length; at += 1) {
    const character = line.charAt(at);
    const next = line.charAt(at + 1);
    if (quote === undefined && /\s/.test(character)) {
      if (word !== undefined) words.push(word);
      word = undefined;
    } else if (quote === undefined && (character === "'" || character === '"')) {
      quote = character;
      word ??= "";
    } else if (character === quote) {
      quote = undefined;
    } else if (character === "\\" && quote !== "'" && at + 1 < line.length) {
      // Within double quotes a backslash stands for itself, save before these.
      const isEscape = quote === undefined || '"\\$`\n'.includes(next);
      word = (word ?? "") + (isEscape ? next : character + next);
      at += 1;
    } else {
      word = (word ?? "") + character;
    }
  }
  if (quote !== undefined) throw invalid("cmd", `has a ${quote} that is not closed`);
  if (word !== undefined) words.push(word);
  return words;
}
