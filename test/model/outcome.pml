/*
 * What becomes of the bitmap: abdicate, reclaim and its fold, always after a failure, groups, merge and clear.
 *
 * One disk of two clusters, or with GROUP two disks of one cluster each, whose job ends for both or for neither.  A view is
 * reduced to its claim; view.pml takes it apart.  Targets have a cache: what was written is durable after a flush that
 * succeeded, and a flush that failed may have dropped it for good.  The gates of a group close in one call, so one word
 * stands for all of them; gate.pml has them apart.
 *
 * The mode (on-success, never, always), the set (all clusters, or what the bitmap says) and where the job is cancelled
 * are chosen at random.
 * Options: GROUP; BREAK    the views may break at any instant
 *          MODE=n          only on-success (0), never (1) or always (2)
 *          DISABLED        the bitmap does not record: the same table, with nothing written
 *          MERGE, CLEAR    no job: the bitmap is merged into another one, or cleared, while guests write
 *          PROBE=n         1 a success after a break, 2 a cancel between the two transitions of a success,
 *                          3 always fails with something covered and something not, 4 a flush failed
 * Faults, BUG=n:
 *   1  the parent does not record while it is folded into   2  a fold loads and stores instead of Atomics.or
 *   3  the reply comes before the fold                      4  a success without a flush
 *   5  a failed flush is repeated, and believed             6  the snapshot of copied is taken after the flush
 *   7  the second transition looks at cancel and break again
 *   8  a group decides its members in calls of their own    9  a copier does not look at stopped after its read
 *  10  always folds the uncopied clusters of the bitmap only, not of the set
 *  11  never abdicates                                     12  the successor goes on recording, the parent begins later
 *  13  a merge folds the live bits, without a fresh layer  14  clear empties the bitmap in place
 *  15  a disabled bitmap's successor records               16  the parent's bits are dropped with the successor's stop
 */
#ifdef GROUP
#define GUESTS 2
#define DISKS 2
#define CLUSTERS 1
#define WRITES 1                /* by each guest */
#else
#define GUESTS 1
#define DISKS 1
#define CLUSTERS 2
#define WRITES 2
#endif
#include "gate-and-words.pml"
#if defined(MERGE) || defined(CLEAR)
#define NO_JOB
#endif
#ifndef PROBE
#define PROBE 0
#endif
#define ALL 2                   /* cells of all disks; cell = disk * CLUSTERS + cluster */
#define LAST (DISKS - 1)
#define ON_SUCCESS 0
#define NEVER 1
#define ALWAYS 2

byte disk[ALL], target[ALL], durable[ALL], old[ALL];
bool dirty[ALL];                /* in the target's cache, not durable */
bool parent[ALL], heir[ALL], merged[ALL];
bool parent_records = true, heir_records, view;

bool set[ALL], busy[ALL], preserved[ALL], copied[ALL], broken[DISKS], stopped[DISKS];
bool started, cancel;
byte mode;

/* what only the properties know */
byte moment[ALL], previous[ALL];                /* previous: what the backups before this job hold */
bool frozen, was_dirty[ALL], wrote[ALL], merged_before[ALL], in_snapshot[ALL], covered[ALL];
bool succeeded[DISKS], failed[DISKS], replied;

#ifdef DISABLED
#define RECORDS false
#else
#define RECORDS true
#endif

inline preserve(d, i) {
    do
    :: broken[d] || stopped[d] || !(set[i] && !preserved[i]) -> break
    :: else ->
       FETCH_OR(busy[i], was);
       if
       :: was -> (!busy[i] || broken[d] || stopped[d])
       :: else ->
          if :: set[i] && !preserved[i] -> old[i] = disk[i]; if :: broken[d] :: else -> preserved[i] = true fi :: else fi;
          busy[i] = false
       fi
    od
}

proctype guest(byte me) {
    byte n, i; bool was;
    do
    :: n == WRITES -> break
    :: else ->
#ifdef GROUP
       i = me;
#else
       if :: i = 0 :: i = 1 fi;
#endif
       enter(me);
       if :: view -> preserve(me, i) :: else fi;
       atomic {
           if :: parent_records -> parent[i] = true :: else fi;
           if :: heir_records -> heir[i] = true :: else fi;
           wrote[i] = wrote[i] || (frozen && RECORDS)
       };
       disk[i] = 10 + 4 * me + n;
       atomic { inside[me] = false; n++; i = 0; was = false }
    od
}

/* copies what it can and drains what guests preserved */
proctype mover(byte d) {
    byte i, data; bool was;
    (started);
    do
    :: stopped[d] || broken[d] -> break
    :: else ->
       if
       :: i = d * CLUSTERS
#ifndef GROUP
       :: i = 1
#endif
       fi;
       if
       :: copied[i] || !set[i] || (busy[i] && !preserved[i])
       :: else ->
          if
          :: preserved[i] -> data = old[i]; target[i] = data; dirty[i] = true; copied[i] = true
          :: else ->
             FETCH_OR(busy[i], was);
             if
             :: was
             :: else ->
                if
                :: preserved[i] -> busy[i] = false
                :: else ->
                   old[i] = disk[i];
                   if
#if BUG == 9
                   :: broken[d] -> busy[i] = false
                   :: !broken[d] ->
#else
                   :: broken[d] || stopped[d] -> busy[i] = false
                   :: !broken[d] && !stopped[d] ->
#endif
                      preserved[i] = true;
                      busy[i] = false;
                      target[i] = old[i]; dirty[i] = true; copied[i] = true
                   fi
                fi
             fi
          fi
       fi;
       if
       :: (set[0] && !copied[0]) || (set[1] && !copied[1]) || stopped[d] || broken[d]
       fi;
       atomic { i = 0; data = 0; was = false }
    od
}

proctype user() {
    (started);
    cancel = true
}
#ifdef BREAK
active proctype breaker() {
    (started);
    if :: broken[0] = true :: broken[LAST] = true fi
}
#endif

/* ---- the coordinator ---- */
#define ALL_COPIED ((!set[0] || copied[0]) && (!set[1] || copied[1]))
#define HAS_BROKEN (broken[0] || broken[LAST])

inline take_snapshot() { in_snapshot[0] = copied[0]; in_snapshot[1] = copied[1] }
/* of all targets of the job; one failure fails it */
inline flush() {
    if
    :: d_step {
           if :: dirty[0] -> durable[0] = target[0]; dirty[0] = false :: else fi;
           if :: dirty[1] -> durable[1] = target[1]; dirty[1] = false :: else fi;
           flushed = true
       }
    :: d_step { dirty[0] = false; dirty[1] = false; flushed = false; flush_failed = true }; assert(PROBE != 4)
    fi
}
inline cover() {
#if BUG == 6
    flush();
    take_snapshot();
#else
    take_snapshot();
    flush();
#endif
    if :: flushed -> d_step { covered[0] = covered[0] || in_snapshot[0]; covered[1] = covered[1] || in_snapshot[1] } :: else fi
}

/* Atomics.or, a word at a time; the two clusters of one disk are in one word */
#if BUG == 2
#define FOLD(from, into) \
    atomic { word[0] = into[0]; word[1] = into[1] }; \
    atomic { into[0] = word[0] || from[0]; into[1] = word[1] || from[1]; word[0] = false; word[1] = false }
#elif defined(GROUP)
#define FOLD(from, into) into[0] = into[0] || from[0]; into[1] = into[1] || from[1]
#else
#define FOLD(from, into) atomic { into[0] = into[0] || from[0]; into[1] = into[1] || from[1] }
#endif
inline stop_views() { stopped[0] = true; stopped[LAST] = true; view = false }

#ifndef NO_JOB
/* section 3.5 of DESIGN.md, and 2.3 of reference-semantics.md */
#define DIED(i) failed[(i) / CLUSTERS]
#define EXPECTED(i) (wrote[i] || (mode != ALWAYS && (DIED(i) || mode == NEVER) && was_dirty[i]) || (mode == ALWAYS && DIED(i) && set[i] && !covered[i]))
inline reply() {
    atomic {
        assert(parent[0] == EXPECTED(0) && parent[1] == EXPECTED(1));      /* I5, when the command is answered */
        assert(succeeded[0] == succeeded[LAST]);                           /* a group: all or none */
        assert(!succeeded[0] || !failed[0]);                               /* what was decided stands */
        replied = true
    }
}

inline reclaim() {
    close_gate();
    atomic {
        stop_views();
#if BUG == 12
        skip
#elif BUG == 1
        heir_records = false
#else
        heir_records = false; parent_records = RECORDS
#endif
    };
    open_gate();
#if BUG == 3
    reply();
#endif
#if BUG == 16
    atomic { parent[0] = heir[0]; parent[1] = heir[1] };
#else
    FOLD(heir, parent);
#endif
#if BUG == 12 || BUG == 1
    close_gate(); heir_records = false; parent_records = RECORDS; open_gate();
#endif
    skip
}
/* the successor is the bitmap from here on */
inline abdicate() {
    close_gate();
    atomic { parent[0] = heir[0]; parent[1] = heir[1]; heir_records = false; parent_records = RECORDS };
    open_gate()
}

proctype coordinator() {
    bool flushed, flush_failed; byte d;
#if BUG == 2
    bool word[2];
#endif
    close_gate();
    atomic {
        moment[0] = disk[0]; moment[1] = disk[1];
        was_dirty[0] = parent[0]; was_dirty[1] = parent[1];
        set[0] = set[0] || parent[0]; set[1] = set[1] || parent[1];
        parent_records = false; heir_records = RECORDS;
#if BUG == 15
        heir_records = true;
#endif
        view = true; frozen = true
    };
    open_gate();
    started = true;
    do
    :: mode == ALWAYS && !flushed && !flush_failed -> cover()              /* a flush on the way, which may help later */
    :: ALL_COPIED -> break
    :: cancel || HAS_BROKEN -> goto fails
    od;
#if BUG == 4
    covered[0] = true; covered[1] = true;
#else
    if :: !flush_failed -> cover() :: else fi;
#if BUG == 5
    if :: flush_failed -> flush(); flush_failed = !flushed; covered[0] = copied[0]; covered[1] = copied[1] :: else fi;
#endif
    if :: flush_failed -> goto fails :: else fi;
#endif
    /* the first transition decides, for all members */
#if BUG == 8
    close_gate();
    atomic { stopped[0] = true; succeeded[0] = !cancel; failed[0] = cancel };
    open_gate();
    close_gate();
    atomic { stopped[1] = true; succeeded[1] = !cancel; failed[1] = cancel; view = false };
    open_gate();
    assert(succeeded[0] == succeeded[1]);
#endif
    close_gate();
    if
    :: cancel -> open_gate(); goto fails
    :: else ->
       atomic {
           stop_views(); succeeded[0] = true; succeeded[LAST] = true;
           assert((!set[0] || durable[0] == moment[0]) && (!set[1] || durable[1] == moment[1]));    /* I2 */
           assert(PROBE != 1 || !HAS_BROKEN)
       };
       open_gate()
    fi;
#if BUG == 7
    if :: cancel || HAS_BROKEN -> goto fails :: else fi;
#endif
    assert(PROBE != 2 || !cancel);
    /* the second makes memory follow */
    if
#if BUG != 11
    :: mode == NEVER -> reclaim()
#endif
    :: BUG == 11 || mode != NEVER ->
       atomic { previous[0] = moment[0]; previous[1] = moment[1] };
       abdicate()
    fi;
    goto answered;

fails:
    failed[0] = true; failed[LAST] = true;
    if
    :: mode == ALWAYS ->
       close_gate();
       atomic { stop_views() };                                            /* the bitmap stays frozen, its heir records */
       open_gate();
       if :: !flush_failed -> cover() :: else fi;
       atomic {                                                            /* what later backups build on */
           assert(!covered[0] || durable[0] == moment[0]); assert(!covered[1] || durable[1] == moment[1]);
           if :: covered[0] -> previous[0] = moment[0] :: else fi;
           if :: covered[1] -> previous[1] = moment[1] :: else fi;
           assert(PROBE != 3 || !(set[0] && set[1] && covered[0] && !covered[1]))
       };
       abdicate();
       do
       :: d < ALL ->
#if BUG == 10
          atomic { parent[d] = parent[d] || (set[d] && was_dirty[d] && !covered[d]) };
#else
          atomic { parent[d] = parent[d] || (set[d] && !covered[d]) };
#endif
          d++
       :: else -> break
       od
    :: else -> reclaim()
    fi;
answered:
    if :: !replied -> reply() :: else fi
}
#endif

#ifdef MERGE
/* parent is merged into merged, which does not record; heir is parent's fresh layer */
proctype coordinator() {
#if BUG == 2
    bool word[2];
#endif
    started = true;
    close_gate();
    atomic {
        moment[0] = parent[0]; moment[1] = parent[1];
#if BUG != 13
        parent_records = false; heir_records = true
#endif
    };
    open_gate();
#if BUG == 13
    FOLD(parent, merged);
#else
    FOLD(parent, merged);
    FOLD(parent, heir);
#endif
    assert(merged[0] == (merged_before[0] || moment[0]) && merged[1] == (merged_before[1] || moment[1]));
    close_gate();
    atomic { parent[0] = parent[0] || heir[0]; parent[1] = parent[1] || heir[1]; heir_records = false; parent_records = true };
    open_gate()
}
#endif

#ifdef CLEAR
proctype coordinator() {
    started = true;
    close_gate();
    atomic {
        previous[0] = disk[0]; previous[1] = disk[1]; frozen = true;
#if BUG != 14
        parent[0] = false; parent[1] = false                               /* swaps in an empty bitmap */
#endif
    };
    open_gate();
#if BUG == 14
    parent[0] = false; parent[1] = false;
#endif
    assert(parent[0] == wrote[0] && parent[1] == wrote[1])
}
#endif

init {
    atomic {
#ifdef MODE
        mode = MODE;
#else
        if :: mode = ON_SUCCESS :: mode = NEVER :: mode = ALWAYS fi;
#endif
        if :: mode != NEVER -> set[0] = true; set[1] = true :: skip fi;
        disk[0] = 1; parent[0] = true;
        if :: merged[0] = true; merged_before[0] = true :: merged[1] = true; merged_before[1] = true fi;
#ifdef DISABLED
        parent_records = false;
#endif
        run guest(0);
#ifndef NO_JOB
        run mover(0); run user();
#endif
#ifdef GROUP
        run guest(1); run mover(1);
#endif
        run coordinator()
    };
    (timeout);
    byte i;
    do
    :: i < ALL ->
#ifndef DISABLED
       assert(disk[i] == previous[i] || parent[i]);                        /* I1 */
#endif
       i++
    :: else -> break
    od
}
