/*
 * The coordinator of gate.pml: posts tables, closes every gate of a transition in one call, waits, commits or opens again.
 *
 * A post stands on the table that was current when it was made; a transition that waits for its next try while another
 * one commits posts anew.  Numbers of posts are never used again (with SAME they are, and then every try posts).
 */
#define LAST (GATES - 1)
#if BUG == 14
#define JOB_LAST 0
#else
#define JOB_LAST LAST           /* a job is over gates 0..JOB_LAST, the added bitmap at gate LAST alone */
#endif
#define FREEZE 0
#define END 1
#define DONE 2

inline wake_threads(g) {
#if BUG != 11
    d_step {
        t = 0;
        do
        :: t < THREADS -> if :: asleep[t] == g + 1 -> asleep[t] = 0 :: else fi; t++
        :: else -> break
        od;
        t = 0
    }
#else
    skip
#endif
}

inline open(first, last) {
    closed[first] = false; wake_threads(first);
    if :: last != first -> closed[last] = false; wake_threads(last) :: else fi
}

inline post(g, table) {
    d_step {
        number[g]++;
#if BUG == 6
        number[g] = generation[g] + 1;
#endif
#ifdef SAME
        number[g] = generation[g] + 1;
#endif
        assert(number[g] < NUMBERS);
        t = 0;
        do :: t < THREADS -> port[t]!g, number[g], table; t++ :: else -> break od;
        t = 0
    }
}

#ifdef PATIENT
#define MAY_GIVE_UP false
#elif defined(SAME)
#define MAY_GIVE_UP (tries < 1)    /* the posts of more would fill the ports */
#else
#define MAY_GIVE_UP true
#endif

/* one try: closes, waits, leaves the answer in ok; whoever called it commits and opens */
inline close_and_wait(first, last) {
    closed[first] = true;
    if :: last != first -> closed[last] = true :: else fi;
    i = 0;
    ok = true;
    do
    :: i == THREADS * GATES || !ok -> break
    :: i < THREADS * GATES && ok && (i % GATES < first || i % GATES > last) -> i++
    :: i < THREADS * GATES && ok && i % GATES >= first && i % GATES <= last ->
#if BUG == 1
       i++
#else
       if
       :: !slots[i] -> i++
       :: else ->
          atomic { if :: slots[i] -> waiting = i + 1 :: else fi };         /* Atomics.wait, for the bound of this try */
          if
          :: waiting == 0
#if BUG != 9
          :: waiting != 0 && MAY_GIVE_UP -> waiting = 0; ok = false
#endif
          fi
       fi
#endif
    od;
    i = 0
}
/* what the job's transition makes of gate g's table */
#define NEXT(g) ((phase == FREEZE -> (current[g] | HEIR | VIEW) : (current[g] & ((abdicates -> HEIR : 0) | EXTRA))))

/* what holds at the instant of a commit */
inline check_commit() {
    atomic {
        shut[0] = (BUG != 7); shut[JOB_LAST] = true;
        if
        :: phase == FREEZE ->
#if BUG != 7
           moment[0] = file[0]; moment[1] = file[1];
#endif
           moment_other = other;
           assert(moment_other <= moment[0] || GATES == 1)                 /* I6: one cut */
        :: else ->
           i = 0;
           do
           :: i < 2 ->
#if BUG != 7
              assert((kept[i] -> old[i] : file[i]) == moment[i]);          /* I2 */
#endif
              if :: abdicates -> checkpoint[i] = moment[i] :: else fi;
              i++
           :: else -> break
           od;
           if :: abdicates -> checkpoint_other = moment_other :: else fi;
           i = 0
        fi
    }
}

inline after_commit() {
    posted = false;
    if
    :: phase == FREEZE ->
       phase = END;
       if :: abdicates = true :: abdicates = false fi
    :: else ->
       d_step {
           if
           :: !abdicates ->                                                /* the fold */
              file_bits[0] = file_bits[0] || file_bits[2];
              file_bits[1] = file_bits[1] || file_bits[3];
              window_bits[0] = window_bits[0] || window_bits[1];
              other_bits[0] = other_bits[0] || other_bits[1]
           :: else
           fi
       };
       phase = DONE;
       REACHED(1)
    fi
}

#ifdef ADD
#define FINISHED_ADDING added
#else
#define FINISHED_ADDING true
#endif
#ifdef SAME
#define JOB_POST_HOLDS false
#define ADD_POST_HOLDS false
#elif BUG == 5
#define JOB_POST_HOLDS posted
#define ADD_POST_HOLDS add_posted
#else
#define JOB_POST_HOLDS (posted && base[0] == generation[0] && base[JOB_LAST] == generation[JOB_LAST])
#define ADD_POST_HOLDS (add_posted && add_base == generation[LAST])
#endif

proctype coordinator() {
    byte i, t, phase, refusals, tries, number[GATES], mine[GATES], base[GATES], add_number, add_base, next[GATES];
    bool ok, posted, add_posted, abdicates;
    do
    :: phase == DONE && FINISHED_ADDING -> break

    :: phase != DONE ->
       if
       :: JOB_POST_HOLDS
       :: else ->
          atomic {
              posted = true;
              base[0] = generation[0]; base[JOB_LAST] = generation[JOB_LAST];
              next[0] = NEXT(0); next[JOB_LAST] = NEXT(JOB_LAST)
          };
#if BUG == 18
          mine[0] = number[0] + 1;
#else
          post(0, next[0]); mine[0] = number[0];
          if :: JOB_LAST != 0 -> post(JOB_LAST, next[JOB_LAST]); mine[JOB_LAST] = number[JOB_LAST] :: else fi
#endif
       fi;
#if BUG == 7
       do
       :: close_and_wait(0, 0);
          if :: ok -> break :: else -> open(0, 0) fi
       od;
       atomic { moment[0] = file[0]; moment[1] = file[1]; generation[0] = mine[0]; current[0] = next[0] };
       open(0, 0);
       do
       :: close_and_wait(1, 1);
          if :: ok -> break :: else -> open(1, 1) fi
       od;
#else
       close_and_wait(0, JOB_LAST);
#endif
       if
#if BUG == 8
       :: !ok && !SLOT(0, 0) && !SLOT(1, 0) ->
          check_commit(); generation[0] = mine[0]; current[0] = next[0]; shut[0] = false; shut[1] = false;
          open(0, 1);
          assert(current[0] == current[1])                                 /* all or none */
#endif
       :: !ok ->
#if BUG != 19
          open(0, JOB_LAST);
#endif
          if
          :: true -> tries++                                               /* later again */
          :: phase == FREEZE && refusals == 0 ->                           /* its deadline: refused, and asked for anew */
             refusals++; posted = false; REACHED(2)
             skip
          fi;
#ifndef SAME
          tries = 0
#endif
       :: ok ->
          check_commit();
          generation[0] = mine[0];                                         /* the commit: one store to each gate */
          current[0] = next[0];
          generation[JOB_LAST] = mine[JOB_LAST];
          current[JOB_LAST] = next[JOB_LAST];
          shut[0] = false; shut[JOB_LAST] = false;
          open(0, JOB_LAST);
#if BUG == 18
          post(0, next[0]);
#endif
          after_commit()
       fi;
       assert(!closed[0] && !closed[LAST])                                 /* no gate stays closed between two calls */

#ifdef ADD
    :: !added ->
       if
       :: ADD_POST_HOLDS
       :: else ->
          add_posted = true; add_base = generation[LAST];
          post(LAST, current[LAST] | EXTRA); add_number = number[LAST]
       fi;
       close_and_wait(LAST, LAST);
       if
       :: !ok -> open(LAST, LAST); tries++;
#ifndef SAME
          tries = 0
#endif
       :: ok ->
          atomic {
              shut[LAST] = true; added_at[0] = file[0]; added_at[1] = file[1]; added_at_other = other; added = true;
              assert(PROBE != 4 || !hung)
          };
          generation[LAST] = add_number;
          current[LAST] = current[LAST] | EXTRA;
          shut[LAST] = false;
          open(LAST, LAST)
       fi;
       assert(!closed[0] && !closed[LAST])
#endif
    od
}
