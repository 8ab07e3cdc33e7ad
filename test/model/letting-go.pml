/*
 * What a job leaves behind: a thread that is stuck in a call, and the next job, which wants the same target or the same memory.
 *
 * One cluster, one guest, two jobs one after the other, a mover for each; with READER one that serves the first job's view and
 * sleeps between requests.  A call into the kernel takes two steps: it resolves its descriptor, and later it moves the
 * bytes, into or out of whatever the buffer then is.  A mover may sit in such a call for ever.
 *
 * Options: ARENAS=n   memory for n views (2; with 1 the second job waits for the first to let go)
 *          DEATH      mover 0 may die at any step, which the pool notices later
 *          READER     the reader is there
 *          READHANG   mover 0 may also sit in a read of the disk for ever, with the claim
 *          PROBE=n    1 job 1 succeeds on the other target while mover 0 sits in its call, 2 job 1 is refused,
 *                     3 job 1 succeeds in memory that it got from job 0, 4 job 1 succeeds on job 0's target
 * Faults, BUG=n:
 *   1  the second job is let onto the target too early    2  the target's descriptor is closed at the cancel
 *   3  a view's memory is used again before the mover let go
 *   4  ... before the reader has acknowledged             5  the buffer is given back at the cancel
 *   6  an idle reader is not woken to acknowledge         7  the memory is not zeroed
 *   8  a thread told to end counts as gone before its exit
 *   9  a reader acknowledges in the middle of a request  10  the cancel waits for the mover
 *  11  a guest's wait for a claim has no bound (READHANG)
 */
#define GUESTS 1
#include "gate-and-words.pml"
#ifndef ARENAS
#define ARENAS 2
#endif
#ifndef PROBE
#define PROBE 0
#endif
#define JOBS 2
#define FILES 2
#define NONE 9

byte disk, content[FILES];
byte open_file[JOBS] = NONE;    /* descriptors: the file behind each number */
byte buffer[JOBS];

/* arenas of views: the words of one cluster, and a spill of one slot */
bool busy[ARENAS], copying[ARENAS], preserved[ARENAS], copied[ARENAS], broken[ARENAS], stopped[ARENAS], slot_full[ARENAS];
byte slot_data[ARENAS];
#define OVER(a) (stopped[a] || broken[a])

/* a job's share: which arena, buffer, descriptor, file */
byte arena_of[JOBS], buffer_of[JOBS], descriptor_of[JOBS], file_of[JOBS];
bool started[JOBS], let_go[JOBS], exited[JOBS], told[JOBS];

byte table_job = NONE;          /* the view in the table */
byte generation;
bool reader_asleep;
#ifdef READER
byte acknowledged;
#endif

/* what only the properties know */
byte moment[JOBS], promised[FILES] = NONE;      /* what a job that succeeded left there */
bool stuck, dead;

proctype guest() {
    byte n, a; bool was;
    do
    :: n == 2 -> break
    :: else ->
       enter(0);
       if
       :: table_job == NONE
       :: else ->
          a = arena_of[table_job];
          do
          :: OVER(a) || preserved[a] -> break
          :: else ->
             FETCH_OR(busy[a], was);
             if
             :: was ->
                if
                :: (!busy[a] || OVER(a))
#if defined(READHANG) && BUG != 11
                :: true -> broken[a] = true     /* its delay is used up */
#endif
                fi
             :: else ->
                if
                :: preserved[a]
                :: else ->
                   slot_data[a] = disk;
                   if :: broken[a] :: else -> slot_full[a] = true; preserved[a] = true fi
                fi;
                busy[a] = false
             fi
          od
       fi;
       disk = TORN;
       disk = n + 1;
       atomic { inside[0] = false; n++; a = 0; was = false }
    od
}

#ifdef DEATH
#define MAY_DIE if :: true :: job == 0 -> dead = true; goto gone fi;
active proctype pool() {
end_alive:
    (dead);
    broken[arena_of[0]] = true;
    exited[0] = true
}
#else
#define MAY_DIE
#endif

#define MAY_HANG if :: true :: job == 0 -> goto stuck_for_ever fi;
inline write_target(data) {
    f = open_file[d];
    MAY_HANG
    if :: f != NONE -> content[f] = data :: else fi
}

proctype mover(byte job) {
    byte a, b, d, f; bool was;
end_not_started:
    (started[job]);
    atomic { a = arena_of[job]; b = buffer_of[job]; d = descriptor_of[job] };
    do
    :: OVER(a) || copied[a] -> break
    :: else ->
       if
       :: slot_full[a] ->                       /* drain */
          (!copying[a] || OVER(a));
          if :: OVER(a) :: else -> write_target(slot_data[a]); copied[a] = true; slot_full[a] = false fi
       :: !preserved[a] ->                      /* copy */
          copying[a] = true;                    /* the only copier: nobody else takes it */
          FETCH_OR(busy[a], was);
          if
          :: was || preserved[a] || stopped[a]
          :: else ->
             MAY_DIE
#ifdef READHANG
             MAY_HANG
#endif
             buffer[b] = disk;
             was = OVER(a);
             if
             :: was
             :: else ->
                preserved[a] = true;
                busy[a] = false;
                MAY_DIE
                write_target(buffer[b]);
                MAY_DIE
                copied[a] = true
             fi;
             was = false
          fi;
          if :: !was -> busy[a] = false :: else fi;
          copying[a] = false
       :: OVER(a) || copied[a]
       fi;
       f = 0; was = false
    od;
    let_go[job] = true;
    goto gone;
stuck_for_ever:
    stuck = true;
end_stuck:
    false;
gone: skip
}

#ifndef READER
#define acknowledged generation
#else
/* serves the view of job 0; between requests it sleeps, and acknowledges when it is woken */
proctype reader() {
    byte own, job, a, got, n;
    job = NONE;
    do
    :: own != generation ->
       atomic { own = generation; job = table_job; n = 0 };
       acknowledged = own
    :: else ->
       if
       :: job == 0 && n == 0 ->
          n++;
          a = arena_of[0];
#if BUG == 9
          acknowledged = generation;
#endif
          if
          :: OVER(a)
          :: !OVER(a) && !preserved[a] ->
             got = disk;
             if :: OVER(a) || preserved[a] :: else -> assert(got == moment[0]) fi
          :: !OVER(a) && preserved[a] ->
             if
             :: copied[a] ->
                n = open_file[descriptor_of[0]];
                got = content[n];
                n = 1;
                assert(got == moment[0] || stopped[a])
             :: else
             fi
          fi;
          got = 0; a = 0
       :: else ->
          atomic { if :: own == generation -> reader_asleep = true :: else fi };
end_idle: (!reader_asleep)
       fi
    od
}
#endif

/* ---- the coordinator ---- */
#define LET_GO(job) (let_go[job] || exited[job])
#if BUG == 3
#define MEMORY_FREE (acknowledged >= ended_at)
#elif BUG == 4
#define MEMORY_FREE (LET_GO(0))
#elif BUG == 8
#define MEMORY_FREE (told[0] && acknowledged >= ended_at)
#else
#define MEMORY_FREE (LET_GO(0) && acknowledged >= ended_at)
#endif

inline open_target(job) {
    atomic {
        descriptor_of[job] = (open_file[0] == NONE -> 0 : 1);
        open_file[descriptor_of[job]] = file_of[job]
    }
}
inline begin(job) {
    close_gate();
    atomic { moment[job] = disk; promised[file_of[job]] = NONE; table_job = job; generation++ };
    started[job] = true;
    open_gate();
    reader_asleep = false
}
/* success or failure at any moment: the view stops and leaves the table, the answer is given */
inline finish(job) {
    if
    :: copied[arena_of[job]] ->
       close_gate();
       atomic {
           assert(content[file_of[job]] == moment[job]);
           promised[file_of[job]] = moment[job];
           stopped[arena_of[job]] = true; table_job = NONE; generation++
       }
    :: true ->
#if BUG == 10
       stopped[arena_of[job]] = true;
       (LET_GO(job));
#endif
       close_gate();
       atomic { stopped[arena_of[job]] = true; table_job = NONE; generation++ }
    fi;
    told[job] = true;
    open_gate();
#if BUG != 6
    reader_asleep = false
#else
    if :: job == 1 -> reader_asleep = false :: else fi
#endif
}
inline give_back() {
    released = true;
#if BUG != 2
    open_file[descriptor_of[0]] = NONE
#endif
}

proctype coordinator() {
    bool released; byte ended_at, refusals;
    file_of[0] = 0;
    open_target(0);
    begin(0);
    finish(0);
    ended_at = generation;
#if BUG == 2
    open_file[descriptor_of[0]] = NONE;
#endif
    do
    :: !released && MEMORY_FREE -> give_back()
    :: true ->
       if :: file_of[1] = 0 :: file_of[1] = 1 fi;
       if
#if BUG != 1
       :: file_of[1] == file_of[0] && !released ->
          assert(PROBE != 2);
          if
          :: MEMORY_FREE
          :: stuck || dead -> goto refused      /* as long as the thread has not let go */
          fi
#endif
#if ARENAS == 1
       :: (BUG == 1 || file_of[1] != file_of[0]) && !released ->
          if
          :: MEMORY_FREE
          :: stuck || dead -> goto refused
          fi
#endif
       :: released || (ARENAS == 2 && (BUG == 1 || file_of[1] != file_of[0])) -> break
       fi
    od;
    arena_of[1] = (released -> 0 : ARENAS - 1);
#if BUG == 5
    buffer_of[1] = 0;
#else
    buffer_of[1] = (released -> 0 : 1);
#endif
#if BUG != 7
    atomic {
        busy[arena_of[1]] = false; copying[arena_of[1]] = false; preserved[arena_of[1]] = false;
        copied[arena_of[1]] = false; slot_full[arena_of[1]] = false; slot_data[arena_of[1]] = 0
    };
    broken[arena_of[1]] = false;
#endif
    stopped[arena_of[1]] = false;
    open_target(1);
    begin(1);
    do
    :: !released && MEMORY_FREE -> give_back()
    :: finish(1) -> break
    od;
    assert(PROBE != 1 || !(stuck && !released && promised[1] != NONE));
    assert(PROBE != 3 || !(released && arena_of[1] == 0 && promised[file_of[1]] != NONE));
    assert(PROBE != 4 || !(file_of[1] == 0 && promised[0] != NONE));
refused: skip
}

init {
    atomic {
        run guest(); run mover(0); run mover(1); run coordinator();
#ifdef READER
        run reader()
#endif
    };
    (timeout);
    assert(promised[0] == NONE || content[0] == promised[0]);
    assert(promised[1] == NONE || content[1] == promised[1])
}
