/** One thing that `hearth doctor` has looked at. */
export interface Finding {
  readonly name: string;
  readonly level: "ok" | "warning" | "broken";
  readonly message: string;
  /** What to do. */
  readonly advice?: string;
}
