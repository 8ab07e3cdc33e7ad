/*
 * One point-in-time view of one disk: guests that preserve, movers that copy and drain, a reader, a coordinator.
 *
 * Options (each a -D of spin; README.md has the sets that check.mjs runs):
 *   MOVER0=k, MOVER1=k  how a mover copies: 0 through its buffer, 1 by the kernel without a claim; without MOVER1 one mover
 *   WIDE        guest 0 writes both clusters in one request
 *   BREAK       a guest whose delay is used up, or who cannot read the old data, breaks the view
 *   ELSEWHERE   a thread that serves the disk dies at any instant while it holds nothing: its pool breaks the view
 *   DEATH=1, 2  guest 0, mover 0 may die at any step; the pool notices later
 *   HANG        mover 0 may hang in a write of the target for ever
 *   READER      somebody reads the view; one guest, who writes twice
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
#define WRITES 2
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

inline mark(c) {
    atomic { wrote[c] = wrote[c] || frozen };
    if :: parent_records -> parent[c] = true :: else fi;
    if :: heir_records -> heir[c] = true :: else fi
}

/* ---- a guest's write ---- */
#if BUG == 20
#define CLEAR_TO_WRITE(c) (!NEEDED(c))
#else
#define CLEAR_TO_WRITE(c) (OVER || !NEEDED(c))
#endif
proctype guest(byte me) {
    byte c, first, last, n; bool was, no_room;
    do
    :: n == WRITES -> break
    :: else ->
       if
       :: first = 0; last = 0
       :: first = 1; last = 1
#ifdef WIDE
       :: me == 0 -> first = 0; last = 1
#endif
       fi;
again: enter(me);
       c = first;
       GUEST_MAY_DIE
       do
       :: c > last || !view -> break
       :: c <= last && view && CLEAR_TO_WRITE(c) -> c++
       :: c <= last && view && !CLEAR_TO_WRITE(c) ->
          FETCH_OR(busy[c], was);
          if
          :: was ->
#if BUG == 2
             c++
#elif BUG == 20
             (!busy[c])
#else
             (!busy[c] || OVER)                 /* 10 ms at most, then look again */
#endif
          :: else ->
             GUEST_MAY_DIE
             if
             :: !NEEDED(c) -> busy[c] = false
             :: else ->
                atomic { no_room = (slot_state[0] != FREE); if :: !no_room -> slot_state[0] = FILLING :: else fi };
                GUEST_MAY_DIE
                if
                :: no_room ->
                   if
#if BUG == 22
                   :: leave(me); (slot_state[0] == FREE || OVER); busy[c] = false; goto again
#elif BUG == 21
                   :: busy[c] = false; (slot_state[0] == FREE || OVER || !NEEDED(c))
#else
                   :: busy[c] = false; leave(me); (slot_state[0] == FREE || OVER || !NEEDED(c)); goto again
#endif
#ifdef BREAK
#if BUG == 3
                   :: busy[c] = false; disk[c] = 200; broken = true
#else
                   :: broken = true; busy[c] = false
#endif
#endif
                   fi
                :: else ->
#if BUG == 19
                   slot_cluster[0] = c; slot_state[0] = FULL; preserved[c] = true;
#endif
                   slot_data[0] = disk[c];
                   GUEST_MAY_DIE
                   if
#if BUG != 12
                   :: broken -> slot_state[0] = FREE; busy[c] = false
#endif
#ifdef BREAK
                   :: true -> broken = true; slot_state[0] = FREE; busy[c] = false      /* the read failed */
#endif
#if BUG != 12
                   :: !broken ->
#else
                   :: true ->
#endif
                      slot_cluster[0] = c;
                      slot_state[0] = FULL;
                      GUEST_MAY_DIE
                      preserved[c] = true;
                      GUEST_MAY_DIE
                      busy[c] = false
                   fi
                fi
             fi
          fi
       od;
#if BUG != 4
       c = first; do :: c <= last -> mark(c); c++ :: else -> break od;
#endif
       GUEST_MAY_DIE
       c = first;
       do
       :: c <= last ->
          atomic { assert(!shut); disk[c] = TORN };
          GUEST_MAY_DIE
          atomic { assert(!shut); disk[c] = 10 + me * 4 + n; c++ }
       :: else -> break
       od;
       GUEST_MAY_DIE
#if BUG == 4
       c = first; do :: c <= last -> mark(c); c++ :: else -> break od;
#endif
       atomic { leave(me); n++; c = 0; first = 0; last = 0; was = false; no_room = false }
    od;
gone: skip
}

/* ---- a mover: drains the spill and copies ---- */
/* hints when to look for work; what is found is looked at again once it is owned */
#define DRAINABLE (slot_state[0] == FULL && (BUG == 8 || !copying[slot_cluster[0]]))
#define COPYABLE(c) (NEEDED(c) && !copying[c] && !busy[c])

inline write_target(c, data) {
    target[c] = TORN;
#ifdef HANG
    if :: true :: me == 0 -> goto end_hung fi;
#endif
    target[c] = data
}

/* gives a slot back: marked first, refilled only after its readers were seen gone */
inline free_slot(s) {
#ifdef READER
    slot_state[s] = FREEING;
#if BUG != 17
    (slot_readers[s] == 0);
#endif
#endif
    slot_state[s] = FREE
}

inline drain() {
#if BUG == 15
    c = slot_cluster[0];
    was = !(preserved[c] && !copying[c]);
    atomic { if :: !was && slot_state[0] == FULL -> slot_state[0] = DRAINING :: else -> was = true fi };
    if :: !was -> c = slot_cluster[0] :: else fi;
#else
    atomic { was = (slot_state[0] != FULL); if :: !was -> slot_state[0] = DRAINING; c = slot_cluster[0] :: else fi };
#endif
    if
    :: was
    :: else ->
       MOVER_MAY_DIE
#if BUG == 8
       was = !preserved[c];
#elif BUG == 16
       was = copying[c];
       was = was || !preserved[c];
#elif BUG != 15
       was = !preserved[c];             /* preserved before copying: who takes copying after this finds nothing to copy */
       was = was || copying[c];
#endif
       if
       :: was -> slot_state[0] = FULL
       :: stopped -> slot_state[0] = FULL
       :: else ->
          write_target(c, slot_data[0]);
          MOVER_MAY_DIE
          copied[c] = true;
          REACHED(2)
          MOVER_MAY_DIE
          free_slot(0)
       fi
    fi
}

/* what a copier looks at between its read and preserved; stopped too: after a stop guests write without preserving */
#if BUG == 6
#define FORBIDS stopped
#elif BUG == 26
#define FORBIDS broken
#else
#define FORBIDS OVER
#endif
inline copy_through_buffer(c) {
    FETCH_OR(busy[c], was);
    if
    :: was                                      /* somebody else's: a later pass looks again */
    :: else ->
       MOVER_MAY_DIE
       if
#if BUG != 23
       :: !NEEDED(c) -> busy[c] = false
#endif
       :: BUG == 23 || NEEDED(c) ->
          old = disk[c];
          MOVER_MAY_DIE
          if
          :: FORBIDS -> busy[c] = false
          :: !FORBIDS ->
#ifdef READER
             slot_data[1 + me] = old; slot_cluster[1 + me] = c; slot_state[1 + me] = FULL;
#endif
#if BUG == 24
             busy[c] = false; write_target(c, old); preserved[c] = true; copied[c] = true;
#else
             preserved[c] = true;
             MOVER_MAY_DIE
             busy[c] = false;
             if
             :: stopped
             :: else ->
                write_target(c, old);           /* however slow, no guest waits for it */
                MOVER_MAY_DIE
                copied[c] = true
             fi;
#endif
#ifdef READER
             free_slot(1 + me)
#endif
          fi
       fi
    fi
}

inline copy_by_kernel(c) {
    old = disk[c];                              /* maybe torn, maybe too new */
    write_target(c, old);
    MOVER_MAY_DIE
#if BUG == 7
    atomic { preserved[c] = true; copied[c] = true };
#elif BUG == 14
    if :: NEEDED(c) && !broken -> preserved[c] = true; copied[c] = true :: else fi;
#else
    do
#if BUG == 13
    :: stopped -> break
#else
    :: OVER -> break
#endif
    :: else ->
       FETCH_OR(busy[c], was);
       if
       :: was -> (!busy[c] || OVER)
       :: else ->
          MOVER_MAY_DIE
          if
          :: NEEDED(c) && (BUG == 13 || !broken) ->
             preserved[c] = true;
             MOVER_MAY_DIE
             copied[c] = true
          :: else                               /* a guest preserved it: the drainer writes over what was copied here */
          fi;
          busy[c] = false;
          break
       fi
    od
#endif
}

inline copy(c, kernel) {
#if BUG == 11
    was = false; copying[c] = true;
#else
    FETCH_OR(copying[c], was);
#endif
    MOVER_MAY_DIE
    if
    :: was                                      /* another copier's */
    :: else ->
       if
       :: OVER || !NEEDED(c)
       :: else -> if :: kernel -> copy_by_kernel(c) :: else -> copy_through_buffer(c) fi
       fi;
       MOVER_MAY_DIE
       copying[c] = false
    fi
}

proctype mover(byte me; bool kernel) {
    byte c, old; bool was;
    (started);
    do
    :: OVER || ALL_COPIED -> break
    :: else ->                                  /* a step of its own: the view may break before the next */
       if
       :: DRAINABLE -> drain()
       :: COPYABLE(0) -> c = 0; copy(c, kernel)
       :: COPYABLE(1) -> c = 1; copy(c, kernel)
       :: OVER || ALL_COPIED
       fi;
       atomic { c = 0; old = 0; was = false }
    od;
#ifdef HANG
    goto gone;
end_hung:
    false;
#endif
gone: skip
}

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

/* ---- a reader of the view ---- */
#ifdef READER
#define IN_A_SLOT(c) (READABLE(0, c) || READABLE(1, c) || READABLE(2, c))
active proctype reader() {
    byte c, s, got; bool pinned;
    (started);
    if :: c = 0 :: c = 1 fi;
    if :: !set[c] -> goto refused :: else fi;
    do
    :: OVER -> goto refused
    :: else ->
       if
       :: !preserved[c] ->
          got = disk[c];
          if
#if BUG == 18
          :: broken -> goto refused
#else
          :: OVER -> goto refused
#endif
#if BUG != 10
          :: preserved[c]                       /* it moved: look again, in the slots now */
#endif
#if BUG == 10
          :: !OVER -> goto answer
#elif BUG == 18
          :: !broken && !preserved[c] -> goto answer
#else
          :: !OVER && !preserved[c] -> goto answer
#endif
          fi
       :: else ->
          if
          :: READABLE(0, c) -> s = 0
          :: READABLE(1, c) -> s = 1
          :: READABLE(2, c) -> s = 2
          :: !IN_A_SLOT(c) && copied[c] -> got = target[c]; REACHED(5) goto answer
          :: !IN_A_SLOT(c) && OVER -> goto refused
          fi;
          slot_readers[s]++;
#if BUG == 9
          got = slot_data[s]; slot_readers[s]--; goto answer;
#endif
#if BUG == 25
          pinned = (slot_cluster[s] == c);
          pinned = pinned && (slot_state[s] == FULL || slot_state[s] == DRAINING);
#else
          pinned = (slot_state[s] == FULL || slot_state[s] == DRAINING);   /* first: until it is full, the cluster is stale */
          pinned = pinned && slot_cluster[s] == c;
#endif
          if
          :: pinned -> got = slot_data[s]; slot_readers[s]--; REACHED(4) goto answer
          :: else -> slot_readers[s]--
          fi
       fi
    od;
answer:
    assert(got == moment[c]);
refused: skip
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
        if :: set[0] = true; set[1] = true :: skip fi;          /* all clusters, or what the bitmap says */
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
