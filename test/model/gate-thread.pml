/*
 * The threads of gate.pml: enter, refresh, one write, leave; and the pool that learns of a death.
 */
inline wake_coordinator(me, g) { atomic { if :: waiting == me * GATES + g + 1 -> waiting = 0 :: else fi } }

inline take_posts(me, g) {
    do
    :: port[me]?pg, pn, pt ->
#if BUG == 22
       if :: pg == g -> stash[pg * NUMBERS + pn] = 1 + pt :: else fi
#elif BUG == 6
       if :: stash[pg * NUMBERS + pn] == 0 -> stash[pg * NUMBERS + pn] = 1 + pt :: else fi
#else
       stash[pg * NUMBERS + pn] = 1 + pt
#endif
       ;
#if BUG == 3
       if :: pg == g -> newest = pn :: else fi
#endif
    :: empty(port[me]) -> break
    od
}

inline refresh(me, g) {
    seen = generation[g];
    if
    :: seen == own[g]
    :: else ->
       d_step {
           take_posts(me, g);
#if BUG == 3
           table[g] = stash[g * NUMBERS + newest] - 1;
#else
           assert(stash[g * NUMBERS + seen] != 0);
           table[g] = stash[g * NUMBERS + seen] - 1;
#endif
           own[g] = seen;
           pn = 0;
           do                                   /* what is older can never be named again */
           :: pn <= seen -> stash[g * NUMBERS + pn] = 0; pn++
           :: else -> break
           od;
           do
           :: pn < NUMBERS ->
              assert(PROBE != 3 || stash[g * NUMBERS + pn] == 0);
#if BUG == 4
              stash[g * NUMBERS + pn] = 0;
#endif
              pn++
           :: else -> break
           od;
           pg = 0; pn = 0; pt = 0
       }
    fi;
    seen = 0
}

inline enter(me, g) {
    do
    :: true ->
#if BUG == 13
       if :: !closed[g] -> skip; SLOT(me, g) = true; break :: else fi;
#else
       SLOT(me, g) = true;
       MAY_DIE
       if :: !closed[g] -> break :: else fi;
#if BUG != 10
       SLOT(me, g) = false;
#endif
#if BUG != 20
       wake_coordinator(me, g);
#endif
#endif
#if BUG == 21
       asleep[me] = g + 1;
#else
       atomic { if :: closed[g] -> asleep[me] = g + 1 :: else fi };        /* Atomics.wait compares before it sleeps */
#endif
       (asleep[me] == 0)
    od
}

inline leave(me, g) {
    SLOT(me, g) = false;
#if BUG != 12
    if :: closed[g] -> wake_coordinator(me, g) :: else fi
#endif
}

/* a thread's write to the stack at gate 0: cluster c, through the file or through the window */
inline write_stack(me, c, through_window) {
#if BUG == 2
    refresh(me, 0);
#endif
#if BUG == 14
    enter(me, through_window);
#else
    enter(me, 0);
#endif
#if BUG != 2
    refresh(me, 0);
#endif
    MAY_DIE
    atomic {                                    /* preserve */
        if
        :: (table[0] & VIEW) && !kept[c] -> old[c] = file[c]; kept[c] = true
        :: else
        fi
    };
    atomic {
#if BUG == 15
        if :: !through_window -> file_bits[2 * (table[0] & HEIR) + c] = true :: else fi;
#else
        file_bits[2 * (table[0] & HEIR) + c] = true;
#endif
#if BUG == 23
        if :: through_window -> window_bits[table[0] & HEIR] = true :: else fi;
#else
        if :: c == 1 -> window_bits[table[0] & HEIR] = true :: else fi;
#endif
        if :: GATES == 1 && (table[0] & EXTRA) -> extra_bits[c] = true :: else fi
    };
    MAY_DIE
#ifdef HANG
    if :: true :: me == 1 -> hung = true;
end_hung: false
    fi;
#endif
    atomic { assert(!shut[0]); file[c] = file[c] + 1 };
    MAY_DIE
#if BUG == 14
    leave(me, through_window)
#else
    leave(me, 0)
#endif
}

#ifdef GROUP
inline write_other(me) {
    enter(me, 1);
    refresh(me, 1);
    atomic {
        other_bits[table[1] & HEIR] = true;
        if :: table[1] & EXTRA -> extra_bits[0] = true :: else fi
    };
    atomic { assert(!shut[1]); other = other + 1 };
    leave(me, 1)
}
#endif

proctype thread(byte me) {
    byte c, n, own[GATES], table[GATES], stash[GATES * NUMBERS];
    byte seen, pg, pn, pt;
    bool through_window;
#if BUG == 3
    byte newest;
#endif
    do
    :: n == WRITES -> break
    :: else ->
#ifdef GROUP
       if
       :: me == 0 ->
#if BUG == 17
          enter(0, 0); write_other(0); leave(0, 0);
#else
          write_stack(0, 0, false);
          write_other(0);                       /* after the first was acknowledged: at any cut other <= file[0] */
#endif
       :: me == 1 ->
          write_stack(1, 1, true)
       fi;
#else
       if
       :: c = 0; through_window = false
       :: c = 1; through_window = false
       :: c = 1; through_window = true
       fi;
       write_stack(me, c, through_window);
       c = 0; through_window = false;
#endif
       n++
    od;
died:
    gone[me] = true
}

#ifdef DEATH
active proctype pool() {
end_alive:
#if BUG == 16
    (SLOT(0, 0));                               /* it is told to end, and the pool does not wait until it has */
#else
    (dying && gone[0]);
#endif
    SLOT(0, 0) = false;
    wake_coordinator(0, 0)
}
#endif
