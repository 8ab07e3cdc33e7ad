/*
 * Part of journal.pml, with -DRESUMABLE: what a restart finds of a resumable job. Two clusters of its set, a spill of one entry, two
 * guests that write once, a copier, a drainer, and one who cancels; for a power loss one guest that writes twice, and one who flushes
 * the target.
 *
 * The rule: a guest overwrites a cluster once its old data is in the spill file, or it is recorded as copied; what a copier has in a
 * buffer does not count. What a cluster was at the freeze is 1, what is newer (or torn) is 2.
 *
 * After a kill: whatever was written is there. After a power loss (POWER): what was not synced may be missing, so an entry may be there or
 * not, and a record of copied says nothing; a record of flushed was written after a flush. A guest's mark is durable before its write
 * (the rest of this model), so a cluster that is not marked was not written.
 */
#define CLUSTERS 2
#ifdef POWER
#define WRITES 2
#else
#define WRITES 1
#endif
#define FLUSHES 1

bool newer[CLUSTERS];           /* the device may hold a guest's write */
bool marked[CLUSTERS];          /* durable: dirty in the successor, or in a region that is not settled */
bool busy[CLUSTERS], copying[CLUSTERS];
bool preserved[CLUSTERS], copied[CLUSTERS];     /* in memory */
byte slot;                      /* in memory: 1 more than the cluster that the spill's one place holds; 0: it is free */
byte entry;                     /* in the file: the same; stays when the place is free */
bool rec[CLUSTERS];             /* in the file: copied */
bool flushed[CLUSTERS];         /* in the file: copied, with a flush since */
byte target[CLUSTERS];          /* what it holds */
bool safe[CLUSTERS];            /* all that it may hold after a power loss is 1 */
bool broken, given_up;          /* in memory; in the spill file */
bool over;                      /* the view has left the table */
bool on_record = true;          /* the job is in the directory */
byte within;                    /* guests inside the gate */

inline claim(c)    { atomic { !busy[c] -> busy[c] = true } }
inline unclaim(c)  { busy[c] = false }
#define STANDS (!broken && !over)
#define NEEDED(c) (STANDS && !preserved[c])

inline arrive(c, what) {
    d_step {
        target[c] = what;
        if :: what == 2 -> safe[c] = false :: else fi   /* until it is written again, and flushed */
    }
}

/* memory follows the record */
inline say_copied(c) {
#if BUG == 15
    copied[c] = true; preserved[c] = true; rec[c] = true
#else
    rec[c] = true; copied[c] = true; preserved[c] = true
#endif
}

inline store(c) {
    if
    :: atomic { slot == 0 -> slot = c + 1 } ->
       entry = c + 1;
       preserved[c] = true
    :: else ->
#if BUG == 17
       broken = true
#else
       given_up = true;
       broken = true
#endif
    fi
}

proctype guest() {
    byte c, n;
    do
    :: n < WRITES ->
       if :: c = 0 :: c = 1 fi;
       marked[c] = true;
       within++;
#if BUG == 19
       newer[c] = true;
#endif
       if
       :: NEEDED(c) ->
          claim(c);
          if :: NEEDED(c) -> store(c) :: else fi;
          unclaim(c)
       :: else
       fi;
       newer[c] = true;
       within--;
       n++
    :: else -> break
    od
}

proctype copier() {
    byte c, n, got;
    do
    :: n < 2 && STANDS ->
       if :: c = 0 :: c = 1 fi;
       atomic { !copying[c] -> copying[c] = true };
       if
       :: NEEDED(c) ->
#if BUG == 13
          claim(c);
          if :: NEEDED(c) -> got = (newer[c] -> 2 : 1); preserved[c] = true :: else -> got = 0 fi;
          unclaim(c);
          if :: got != 0 -> arrive(c, got); rec[c] = true; copied[c] = true :: else fi
#else
          if :: newer[c] -> got = 2 :: else -> got = 1 fi;
          arrive(c, got);
          claim(c);
#if BUG == 14
          say_copied(c);
#else
          if :: NEEDED(c) -> say_copied(c) :: else fi;
#endif
          unclaim(c)
#endif
       :: else
       fi;
       copying[c] = false;
       n++
    :: else -> break
    od
}

proctype drainer() {
    byte c, n;
    do
    :: n < 2 && STANDS ->
       if
       :: slot != 0 ->
          c = slot - 1;
#if BUG == 22
          if
          :: preserved[c] ->
#else
          if
          :: preserved[c] && !copying[c] ->
#endif
             arrive(c, 1);
#if BUG == 16
             slot = 0; say_copied(c)
#else
             say_copied(c); slot = 0
#endif
          :: else
          fi
       :: else
       fi;
       n++
    :: else -> break
    od
}

proctype flusher() {
    byte n; bool before[CLUSTERS];
    do
    :: n < FLUSHES ->
#if BUG == 20
       d_step { flushed[0] = copied[0]; flushed[1] = copied[1] };
#endif
#if BUG != 21
       before[0] = copied[0]; before[1] = copied[1];
#endif
       d_step {                                            /* the target's flush: what it holds is what it keeps */
           if :: target[0] == 1 -> safe[0] = true :: else fi;
           if :: target[1] == 1 -> safe[1] = true :: else fi
       };
#if BUG == 21
       before[0] = copied[0]; before[1] = copied[1];
#endif
       if :: before[0] -> flushed[0] = true :: else fi;
       if :: before[1] -> flushed[1] = true :: else fi;
       n++
    :: else -> break
    od
}

proctype canceller() {
#if BUG == 18
    atomic { within == 0 -> over = true };
    on_record = false
#else
    on_record = false;                                     /* durable: from here on a restart reclaims */
    atomic { within == 0 -> over = true }                  /* the gate */
#endif
}

#define USABLE (on_record && !given_up)
#ifdef POWER
/* An entry may be lost; then a cluster that is marked and not flushed is reclaimed, so nothing has to hold of it. */
#define HELD(c) (flushed[c] -> safe[c] : (marked[c] || !newer[c]))
#else
#define HELD(c) (rec[c] -> target[c] == 1 : (entry == c + 1 || !newer[c]))
#endif

active proctype watcher() {
end: atomic { USABLE && !(HELD(0) && HELD(1)) -> assert(false) }
}

init {
    atomic {
        run guest(); run copier(); run drainer();
#ifdef POWER
        run flusher();
#else
        run guest(); run canceller();
#endif
    }
}
