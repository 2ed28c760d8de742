/** Calls `make` once for each distinct key, so that one kernel variant is one object. Keys are compared as JSON. */
export function memo<K, V>(make: (key: K) => V): (key: K) => V {
  const made = new Map<string, V>();
  return (key) => {
    const id = JSON.stringify(key);
    let value = made.get(id);
    if (value === undefined) made.set(id, value = make(key));
    return value;
  };
}
