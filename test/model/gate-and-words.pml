/*
 * What the models of the data plane share: one atomic instruction, values of data, and a plain gate.
 *
 * The gate here waits for its slots without a bound. The one with retries, deadlines, sleeps and posted tables is checked
 * by itself in gate.pml; a try that fails changes nothing but who gets in first, so leaving it out loses no interleaving.
 * A flag that only ever rises (broken, stopped, preserved, copied) may be read together with others in one expression:
 * reading them one after the other has the outcome of reading them all at one of the two instants.
 */
#ifndef BUG
#define BUG 0
#endif
#define TORN 255                /* data caught in the middle of a write */

/* Atomics.or on one bit: who saw 0 owns it. */
#define FETCH_OR(bit, was) atomic { was = bit; bit = true }

bool closed;
bool inside[GUESTS];

inline enter(me) {
    do
    :: inside[me] = true;
       if
       :: !closed -> break
       :: else -> inside[me] = false; (!closed)
       fi
    od
}
inline leave(me) { inside[me] = false }

#if GUESTS == 1
#define NOBODY_INSIDE (!inside[0])
#else
#define NOBODY_INSIDE (!inside[0] && !inside[1])
#endif
inline close_gate() { closed = true; (NOBODY_INSIDE) }
inline open_gate() { closed = false }
