/*
 * The gate and the recorder table: threads that write, a coordinator that tries, gives up and tries again.
 *
 * Gate 0 is a stack: a file of two clusters and a window over its cluster 1, each with a bitmap that records.  With GROUP
 * there is a second disk behind gate 1, which thread 0 writes in order after the first.  A job freezes, ends by abdicate or
 * reclaim; with ADD a new bitmap starts to record at the last gate at any time between, so that one transition's posted table grows stale
 * while it waits for its next try.  What a thread does inside (preserve, mark) is one step here: view.pml takes it apart.
 * Sleeping is explicit, so a wake-up that is forgotten shows.
 *
 * Options: GROUP; ADD; PATIENT  no try is ever given up (then a lost wake-up is a deadlock); HANG  thread 1 may hang inside for
 *          ever; DEATH  thread 0 may die at any step; SAME  a number is used again, with a new post before every try;
 *          PROBE=n  1 the job ended, 2 a freeze was refused, 3 a table was taken with a later one behind it in the port,
 *          4 a transition of gate 1 alone, while a thread hangs in gate 0 (GROUP, ADD, HANG)
 * Faults, BUG=n:
 *   1  a commit without waiting for the slots           2  the generation is compared before entering, not after
 *   3  a thread takes the newest table of its port      4  it forgets the tables behind the one it took
 *   5  a stale post is committed on a later try         6  a given-up number means two tables, the first is taken
 *   7  a group's gates close and commit one by one      8  a group commits the gate that was free, not the other
 *   9  a try waits without a bound                     10  a thread at a closed gate keeps its slot
 *  11  opening wakes nobody                            12  leaving wakes nobody
 *  13  a thread looks at the gate, then takes its slot 14  the window has a gate of its own
 *  15  a write through the window marks only there     16  a dying thread's slot is given up before its exit
 *  17  a thread enters a gate inside another           18  the table is posted after the commit
 *  19  a try that was given up leaves the gate closed  20  a thread that backs off wakes nobody
 *  21  a thread sleeps without comparing the word      22  a thread drops the other disk's tables from its port
 *  23  a write through the file does not mark the window
 */
#ifndef BUG
#define BUG 0
#endif
#ifndef PROBE
#define PROBE 0
#endif
#if PROBE
#define REACHED(n) assert(PROBE != n);
#else
#define REACHED(n)
#endif
#define THREADS 2
#ifdef GROUP
#define GATES 2
#else
#define GATES 1
#endif
#if BUG == 14
#undef GATES
#define GATES 2
#endif
#ifndef WRITES
#define WRITES 2                /* by each thread */
#endif
#define NUMBERS 9               /* posts of one gate, from 1 */
#define SLOT(t, g) slots[(t) * GATES + (g)]

/* a table: who records, who needs old data */
#define HEIR 1                  /* the successor records, not the parent */
#define VIEW 2
#define EXTRA 4                 /* the added bitmap records */

bool closed[GATES], slots[THREADS * GATES];
byte generation[GATES];
byte asleep[THREADS];           /* 1 + the gate whose word a thread sleeps on */
byte waiting;                   /* 1 + the slot that the coordinator waits for */
chan port[THREADS] = [NUMBERS * GATES] of { byte, byte, byte };    /* gate, number, table */

byte file[2], other;
bool file_bits[4], window_bits[2], other_bits[2], extra_bits[2];    /* file_bits: 2 * bitmap + cluster; bitmap 1 is the heir */

/* what the properties know; kept and old stand for the whole of view.pml */
bool shut[GATES], kept[2], added, hung, dying, gone[THREADS];
byte old[2], moment[2], moment_other, checkpoint[2], checkpoint_other, added_at[2], added_at_other, current[GATES];

#ifdef DEATH
#define MAY_DIE if :: true :: me == 0 -> dying = true; goto died fi;
#else
#define MAY_DIE
#endif

#include "gate-thread.pml"
#include "gate-coordinator.pml"

init {
    atomic {
        run thread(0); run thread(1); run coordinator()
    };
    (timeout);
    byte c;
    bool heir = current[0] & HEIR;
    do
    :: c < 2 ->
       assert(file[c] == checkpoint[c] || file_bits[2 * heir + c]);        /* I1 */
       assert(!added || GATES == 2 || file[c] == added_at[c] || extra_bits[c]);
       c++
    :: else -> break
    od;
    assert(file[1] == checkpoint[1] || window_bits[heir]);
    assert(!added || GATES == 1 || other == added_at_other || extra_bits[0]);
    assert(other == checkpoint_other || other_bits[heir])
}
