/*
 * Part of journal.pml, with -DSYNCED: a resumable job whose spill is synced, and a power loss at any instant. Two clusters of its set, a
 * spill of one entry, two guests, a copier, a drainer, and one who flushes the target; each does one thing.
 *
 * The rule: a guest overwrites a cluster once its entry was synced, or once a flush of the target covers it and that is durably
 * recorded. A restart takes an entry that is whole, or what is recorded as flushed from the target, and anything else from the disk:
 * so what is in neither must not have been overwritten. What a cluster was at the freeze is 1, what is newer 2.
 *
 * Worst case: data of guests counts as on disk from its first byte on; an entry counts if it was synced and not written over since; a
 * record that was not synced may be there or not.
 */
#define CLUSTERS 2

bool newer[CLUSTERS];           /* the device may hold a guest's write */
bool busy[CLUSTERS], copying[CLUSTERS];
bool preserved[CLUSTERS], copied[CLUSTERS], may[CLUSTERS];      /* in memory; may: a guest may overwrite it */
byte slot;                      /* in memory: 1 more than the cluster that the spill's one place holds; 0: it is free */
bool ready, held;               /* in memory: that can be drained; that was, and waits for a flush */
byte stored, synced;            /* in memory: entries written, and how many of them a sync has covered */
byte entry, entry_durable;      /* in the file: the same as slot; and as it was at the last sync */
bool flushed[CLUSTERS], flushed_durable[CLUSTERS];
byte target[CLUSTERS];          /* what it holds */
bool safe[CLUSTERS];            /* all that it may hold after a power loss is 1 */
bool broken, given_up, given_up_durable, said;  /* in memory; in the spill file; there at the last sync; in memory that it was */

inline claim(c)    { atomic { !busy[c] -> busy[c] = true } }
inline unclaim(c)  { busy[c] = false }
#define NEEDED(c) (!broken && !preserved[c])
#define WANTED(c) (NEEDED(c) && !copied[c])

inline arrive(c, what) {
    d_step {
        target[c] = what;
        if :: what == 2 -> safe[c] = false :: else fi
    }
}

inline say_copied(c) {
#if BUG == 23
    d_step { copied[c] = true; preserved[c] = true; may[c] = true }
#else
    copied[c] = true
#endif
}

inline store(c) {
    if
    :: atomic { slot == 0 -> slot = c + 1 } ->
#if BUG == 24
       stored++;
       entry = c + 1;
#else
       entry = c + 1;
       stored++;
#endif
       ready = true;
       preserved[c] = true
    :: else ->
       given_up = true;
       broken = true
    fi
}

/* what a sync of the spill's file makes durable */
#define SYNC d_step { entry_durable = entry; given_up_durable = given_up }

proctype guest() {
    byte c, count, upto;
    if :: c = 0 :: c = 1 fi;
again:
    if
    :: NEEDED(c) ->
       claim(c);
       if :: NEEDED(c) -> store(c) :: else fi;
       unclaim(c)
    :: else
    fi;
    if
    :: broken && !said ->
#if BUG != 25
       SYNC;
#endif
       said = true;
       goto again
    :: broken && said
    :: !broken && !may[c] ->
#if BUG == 26
       if :: synced == 0 -> upto = stored; SYNC; synced = upto :: else fi;      /* somebody's entry is covered */
#else
       count = stored;
       if
       :: synced < count -> upto = stored; SYNC; synced = (synced < upto -> upto : synced)
       :: else
       fi;
#endif
       may[c] = true;
       goto again
    :: !broken && may[c]
    fi;
    newer[c] = true
}

proctype copier() {
    byte c, got;
    if :: c = 0 :: c = 1 fi;
    copying[c] = true;
    if
    :: WANTED(c) ->
       got = (newer[c] -> 2 : 1);
       arrive(c, got);
       claim(c);
       if :: WANTED(c) -> say_copied(c) :: else fi;
       unclaim(c)
    :: else
    fi;
    copying[c] = false
}

proctype drainer() {
    byte c;
end:
    if
    :: ready ->
       c = slot - 1;
       if
       :: preserved[c] && !copying[c] ->
          if :: !copied[c] -> arrive(c, 1); say_copied(c) :: else fi;
#if BUG == 27
          d_step { ready = false; slot = 0 }
#else
          d_step { ready = false; held = true }
#endif
       :: else
       fi
    :: broken
    fi
}

proctype flusher() {
    bool before[CLUSTERS];
end:
    if :: copied[0] || copied[1] :: broken fi;
    d_step {
        before[0] = copied[0]; before[1] = copied[1];
        if :: target[0] == 1 -> safe[0] = true :: else fi;
        if :: target[1] == 1 -> safe[1] = true :: else fi
    };
    d_step {
        if :: before[0] -> flushed[0] = true :: else fi;
        if :: before[1] -> flushed[1] = true :: else fi
    };
#if BUG != 28
    d_step { flushed_durable[0] = flushed[0]; flushed_durable[1] = flushed[1] };
#endif
    d_step { if :: before[0] -> preserved[0] = true; may[0] = true :: else fi };
    d_step { if :: before[1] -> preserved[1] = true; may[1] = true :: else fi };
    d_step {
        if
        :: held -> if :: before[slot - 1] -> held = false; slot = 0 :: else fi
        :: else
        fi
    }
#if BUG == 28
    ; d_step { flushed_durable[0] = flushed[0]; flushed_durable[1] = flushed[1] }
#endif
}

#define KEPT(c) (entry == c + 1 && entry_durable == c + 1)
#define HELD(c) ((!flushed[c] || safe[c]) && (flushed_durable[c] || KEPT(c) || !newer[c]))

active proctype watcher() {
end: atomic { !given_up_durable && !(HELD(0) && HELD(1)) -> assert(false) }
}

init {
    atomic { run guest(); run guest(); run copier(); run drainer(); run flusher() }
}
