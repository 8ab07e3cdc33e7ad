/*
 * A guest's write in view.pml: preserve what the view still needs, mark, write.  Nothing here waits for a target.
 */
inline mark(c) {
    atomic { wrote[c] = wrote[c] || frozen };
    if :: parent_records -> parent[c] = true :: else fi;
    if :: heir_records -> heir[c] = true :: else fi
}

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
#ifndef ONE
       :: first = 1; last = 1
#endif
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
