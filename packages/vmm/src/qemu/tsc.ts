/** The rate of the host's time stamp counter, which a guest under TCG sees unchanged. */
import { readFileSync } from "node:fs";

/**
 * The kernel's own number where it is published, else the clock rate of the first processor. Null when
 * neither is there (not x86): the guest then has to calibrate.
 */
export function hostTscKhz(
  read: (path: string) => string = (path) => readFileSync(path, "utf8"),
): number | null {
  const attempt = (path: string): string => {
    try {
      return read(path);
    } catch {
      return "";
    }
  };
  const published = Number.parseInt(attempt("/sys/devices/system/cpu/cpu0/tsc_freq_khz"), 10);
  if (published > 0) return published;
  const mhz = /^cpu MHz\s*:\s*([0-9.]+)/m.exec(attempt("/proc/cpuinfo"))?.[1];
  return mhz === undefined ? null : Math.round(Number(mhz) * 1000);
}
