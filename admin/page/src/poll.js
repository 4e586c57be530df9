// Data of a place, fetched again while somebody looks.
import { useCallback, useEffect, useRef, useState } from 'preact/hooks';
import { get } from './api.js';

/** Milliseconds between two fetches. */
const STEP = 2_000;
/** The longest pause after failures: a server that is back is seen within it. */
const STEP_MAX = 15_000;

/**
 * Fetches `path` now, every two seconds while the page is visible, and on `again()`.
 *
 * `data` stays when a fetch fails: `error` says why, and `at` when the data came. An answer to a request that is
 * not wanted any more is dropped.
 */
export function usePoll(path, parameters = {}, step = STEP) {
  const query = new URLSearchParams(Object.entries(parameters).filter(([, value]) => value !== '' && value != null)).toString();
  const key = query ? `${path}?${query}` : path;
  const [state, setState] = useState({ key, data: null, error: null, at: null });
  const now = useRef(() => {});
  useEffect(() => {
    let timer = null;
    let failures = 0;
    let stop = new AbortController();
    let isOver = false;
    const fetchIt = async () => {
      clearTimeout(timer);
      stop.abort();
      stop = new AbortController();
      const { signal } = stop;
      try {
        const data = await get(key, signal);
        if (signal.aborted) return;
        failures = 0;
        setState({ key, data, error: null, at: Date.now() });
      } catch (error) {
        if (signal.aborted) return;
        failures += 1;
        setState((before) => ({ ...(before.key === key ? before : { data: null, at: null }), key, error }));
      }
      plan();
    };
    const plan = () => {
      clearTimeout(timer);
      if (isOver || document.hidden || step === null) return;
      timer = setTimeout(fetchIt, Math.min(step * 2 ** failures, STEP_MAX));
    };
    const seen = () => (document.hidden ? clearTimeout(timer) : fetchIt());
    now.current = fetchIt;
    fetchIt();
    document.addEventListener('visibilitychange', seen);
    return () => {
      isOver = true;
      clearTimeout(timer);
      stop.abort();
      document.removeEventListener('visibilitychange', seen);
    };
  }, [key, step]);
  const again = useCallback(() => now.current(), []);
  return { ...state, isOld: state.key !== key, again };
}
