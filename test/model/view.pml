/*
 * One point-in-time view of one disk: guests that preserve, movers that copy and drain, a reader, a coordinator.
 *
 * Options (each a -D of spin; README.md has the sets that check.mjs runs):
 *   MOVER0=k, MOVER1=k  how a mover copies: 0 through its buffer, 1 by the kernel without a claim; without MOVER1 one mover
 *   WIDE        guest 0 writes both clusters in one request
 *   ONE         guests and the reader keep to cluster 0, which alone is in the set
 *   BREAK       a guest whose delay is used up, or who cannot read the old data, breaks the view
 *   ELSEWHERE   a thread that serves the disk dies at any instant while it holds nothing: its pool breaks the view
 *   DEATH=1, 2  guest 0 or mover 0 may die at any step; the pool notices later
 *   HANG        mover 0 may hang in a write of the target for ever
 *   READER      somebody reads the view; one guest, who writes twice
 *   GUESTS=n, WRITES=n  1 or 2 guests (2), and how often each writes (1)
 *   PROBE=n     not a fault: shows that a state is reached (1 success, 2 a drained cluster, 3 success of a broken view,
 *               4 an answer from a slot, 5 an answer from the target)
 * Faults, BUG=n, each a rule of the protocol left out:
 *   1  the gate does not wait for its slots              2  a guest goes on past a claim of somebody else
 *   3  the view is broken after the guest's write        4  the mark comes after the write
 *   5  a death does not break the view                   6  a copier does not look at broken after its read
 *   7  the kernel's copy counts without a second look    8  a drainer does not look at copying
 *   9  a reader does not compare the slot's cluster     10  a reader does not look at preserved after its read
 *  11  a copier does not look whether another one is copying
 *  12  a guest does not look at broken after its read   13  the kernel's copier does not look at broken
 *  14  the kernel's copier looks again without a claim  15  a drainer looks before it takes the slot
 *  16  a drainer looks at copying before preserved      17  a slot is freed while somebody has it pinned
 *  18  a reader does not look at stopped after its read 19  preserved is set before the data is in the slot
 *  20  a waiter does not look at broken                 21  a guest keeps the gate while the spill is full
 *  22  a guest keeps the claim while the spill is full  23  a copier does not look whether it is needed under its claim
 *  24  a copier writes the target before it sets preserved, then takes its copy for old
 *  25  a reader looks at the slot's cluster before its state
 *  26  a copier does not look at stopped after its read
 */
#ifdef READER
#define GUESTS 1
#ifndef WRITES
#define WRITES 2
#endif
#endif
#ifndef GUESTS
#define GUESTS 2
#endif
#ifndef WRITES
#define WRITES 1                /* by each guest */
#endif
#include "gate-and-words.pml"
#ifndef DEATH
#define DEATH 0
#endif
#ifndef MOVER0
#define MOVER0 0
#endif
#ifndef PROBE
#define PROBE 0
#endif
#define CLUSTERS 2

/* slots: the spill has one; in a view with readers the buffer of mover m counts as slot 1 + m */
#ifdef READER
#define SLOTS 3
#else
#define SLOTS 1
#endif
#define FREE 0
#define FILLING 1
#define FULL 2
#define DRAINING 3              /* full, and a drainer owns it */
#define FREEING 4               /* no new reader may use it */
#define READABLE(s, c) ((slot_state[s] == FULL || slot_state[s] == DRAINING) && slot_cluster[s] == c)

byte disk[CLUSTERS], target[CLUSTERS];
bool parent[CLUSTERS], heir[CLUSTERS];
bool parent_records = true, heir_records, view;         /* the table; changes only while the gate is shut */

/* the view's memory */
bool set[CLUSTERS], busy[CLUSTERS], copying[CLUSTERS], preserved[CLUSTERS], copied[CLUSTERS], broken, stopped;
byte slot_state[SLOTS], slot_cluster[SLOTS], slot_data[SLOTS], slot_readers[SLOTS];
#define OVER (broken || stopped)
#define NEEDED(c) (set[c] && !preserved[c])
#define ALL_COPIED ((!set[0] || copied[0]) && (!set[1] || copied[1]))

bool started, guest_dead, mover_dead;

/* what only the properties know */
byte moment[CLUSTERS], checkpoint[CLUSTERS];
bool was_frozen[CLUSTERS], wrote[CLUSTERS], frozen, shut, succeeded;

#if PROBE
#define REACHED(n) assert(PROBE != n);
#else
#define REACHED(n)
#endif

/* any step of the mortal thread may be its last */
#if DEATH == 1
#define GUEST_MAY_DIE if :: true :: me == 0 -> guest_dead = true; goto gone fi;
#else
#define GUEST_MAY_DIE
#endif
#if DEATH == 2
#define MOVER_MAY_DIE if :: true :: me == 0 -> mover_dead = true; goto gone fi;
#else
#define MOVER_MAY_DIE
#endif

#include "view-guest.pml"
#include "view-mover.pml"
#ifdef READER
#include "view-reader.pml"
#endif

/* ---- the pool learns of a death from the thread's exit event ---- */
#if DEATH
active proctype pool() {
end_alive:
    (guest_dead || mover_dead);
#if BUG != 5
    broken = true;
#endif
    if :: guest_dead -> inside[0] = false :: else fi
}
#endif
#ifdef ELSEWHERE
active proctype other_death() {
end_alive:
    (started);
    broken = true
}
#endif

/* ---- the coordinator ---- */
proctype coordinator() {
    byte c;
#if BUG == 1
    closed = true;
#else
    close_gate();
#endif
    shut = true;
    atomic {
        c = 0;
        do
        :: c < CLUSTERS -> moment[c] = disk[c]; was_frozen[c] = parent[c]; set[c] = set[c] || parent[c]; c++
        :: else -> break
        od;
        c = 0;
        parent_records = false; heir_records = true; view = true; frozen = true
    };
    shut = false;
    open_gate();
    started = true;
    if
    :: ALL_COPIED ->                            /* and the target was flushed: broken or not, it has succeeded */
       close_gate();
       shut = true;
       atomic {
           assert((!set[0] || target[0] == moment[0]) && (!set[1] || target[1] == moment[1]));
           REACHED(1) assert(PROBE != 3 || !broken);
           succeeded = true; stopped = true; view = false
       };
       shut = false;
       open_gate();
       close_gate();                            /* the record is durable: memory follows */
       shut = true;
       atomic {
           do
           :: c < CLUSTERS -> checkpoint[c] = moment[c]; parent[c] = heir[c]; c++
           :: else -> break
           od;
           c = 0;
           parent_records = true; heir_records = false
       };
       shut = false;
       open_gate()
    :: true ->                                  /* failed or cancelled, at any instant */
       close_gate();
       shut = true;
       atomic { stopped = true; view = false; parent_records = true; heir_records = false };
       shut = false;
       open_gate();
       do
       :: c < CLUSTERS -> if :: heir[c] -> parent[c] = true :: else fi; c++
       :: else -> break
       od
    fi
}

init {
    atomic {
#ifndef ONE
        if :: set[0] = true; set[1] = true :: skip fi;          /* all clusters, or what the bitmap says */
#endif
        disk[0] = 1; parent[0] = true;                          /* cluster 0 changed since the last backup */
        run guest(0);
#if GUESTS == 2
        run guest(1);
#endif
        run mover(0, MOVER0);
#ifdef MOVER1
        run mover(1, MOVER1);
#endif
        run coordinator()
    };
    (timeout);
    byte i;
    do
    :: i < CLUSTERS ->
       assert(disk[i] == checkpoint[i] || parent[i]);                                       /* I1 */
       assert(!succeeded || !set[i] || target[i] == moment[i]);                             /* I2, for good */
       assert(parent[i] == (wrote[i] || (!succeeded && was_frozen[i])));                    /* I5 */
       i++
    :: else -> break
    od
}
