/*
 * A mover of view.pml: one thread that drains the spill and copies, through its buffer or by the kernel.
 */
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
