/*
 * A reader in view.pml (a pull backup): device, slot or target, whichever holds the old data when it looks.
 */
#define IN_A_SLOT(c) (READABLE(0, c) || READABLE(1, c) || READABLE(2, c))
active proctype reader() {
    byte c, s, got; bool pinned;
    (started);
#ifndef ONE
    if :: c = 0 :: c = 1 fi;
#endif
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
