/*
 * A persistent bitmap: its bits in the journal, its marks in memory, and the regions of the disk, while guests write, a backup
 * freezes and ends, a merge folds, and settlers settle. One region, one block of two granules a layer.
 *
 * Options:  POWER    a power loss: what counts is what was synced, or that the region is marked on disk
 *                    (without it: a killed process, whose page cache survives)
 *           BACKUP   freezes (layer 1 takes over from layer 0) and abdicates: layer 0 leaves the record, and its memory is reused
 *           FOLD     another bitmap, with both granules dirty, is merged into layer 0
 *           SETTLERS how many; 1 by default with POWER
 *           RESUMABLE a resumable job instead (journal-job.pml): what lets a guest overwrite a cluster of its point in time
 *           SYNCED   one whose spill is synced, and a power loss (journal-synced.pml)
 *           EARLY    a thread counts as dead before it has exited, if only for its lock
 *           BUG=n    leaves a rule out:
 *  1  a granule is `journaled` after its block was written
 *  2  a block is written from a snapshot taken under its lock
 *  3  a region is marked in memory after its record was synced
 *  4  settling waits for those who are inside
 *  5  a mark that was taken again stays in the file
 *  6  a fold writes its block before memory has the bits
 *  7  journaling does not mark: a frozen bitmap does not grow
 *  8  one settler at a time
 *  9  a dead thread's lock is released after its exit                                   (EARLY)
 * 10  a layer is used again when nobody stands aside with it                             (BACKUP)
 * 11  the successor is in the record before the freeze                                   (BACKUP)
 * 12  settling syncs the bits
 * Of a resumable job (RESUMABLE):
 * 13  what a copier has in its buffer is stored nowhere
 * 14  a copier looks again, under a claim, whether its cluster was needed
 * 15  memory says copied after the record does
 * 16  a place in the spill is free after its cluster is recorded
 * 17  a view that is given up says so in its spill, before the guest writes
 * 18  a cancelled job leaves the record before its view leaves the table
 * 19  the old data is stored before the guest writes
 * 20  flushed is recorded after the flush                                               (POWER)
 * 21  what a flush covers was copied before it began                                    (POWER)
 * 22  a drainer leaves clusters alone that a copier works on
 * Of one whose spill is synced (SYNCED):
 * 23  what is on the target may be overwritten once a flush covers it
 * 24  an entry is counted after it was written
 * 25  that a view is given up is synced before the guest writes
 * 26  a sync covers what was counted before it began
 * 27  a place in the spill is free after a flush of the target covers its cluster
 * 28  what a flush covers may be overwritten once that is durably recorded
 *
 * The watcher stands for a crash at any instant. Worst case: data counts as on disk from its first byte on, a mark as cleared at once,
 * a bit or a mark as there only when it was synced.
 */
#ifndef BUG
#define BUG 0
#endif
#ifdef SYNCED
#include "journal-synced.pml"
#elif defined(RESUMABLE)
#include "journal-job.pml"
#else
#ifndef SETTLERS
#define SETTLERS 1
#endif
#define WRITERS 2
#define B(l, g) (2 * (l) + (g))

bool journaled[4];              /* of layer l and granule g: in memory */
bool cached[4];                 /* in the file, as the page cache has it */
bool synced[4];                 /* durable */
bool wrote[4];                  /* the device may hold a guest's write of granule g that was to be marked in layer l */
bool lock[2];                   /* of each layer's block */
bool inside[WRITERS], aside[WRITERS];
byte frozen, abdicated, reused, named1;
bool region, region_on_disk, region_lock, settler;

#ifdef POWER
#define IN_FILE(b) (synced[b] || region_on_disk)
#else
#define IN_FILE(b) cached[b]
#endif
/* Written before the freeze: in the backup once it has succeeded; else in one of the layers that the record names. */
#define HELD0(g) (!wrote[B(0, g)] || abdicated || IN_FILE(B(0, g)))
#define HELD1(g) (!wrote[B(1, g)] || (named1 && IN_FILE(B(1, g))))

inline take(l)    { atomic { !lock[l] -> lock[l] = true } }
inline release(l) { lock[l] = false }

proctype writer(byte id) {
    byte g, l, n; bool s0, s1;
    do
    :: n < 2 ->
       if :: g = 0 :: g = 1 fi;
again:
       inside[id] = true;
       l = frozen;                                      /* the table in force */
#ifdef POWER
       if
       :: region -> skip
       :: else ->
          aside[id] = true; inside[id] = false;
          atomic { !region_lock -> region_lock = true };
          if
          :: !region ->
#if BUG == 3
             region = true; region_on_disk = true
#else
             region_on_disk = true;                     /* written and synced; nothing to do where it still was */
             region = true
#endif
          :: else
          fi;
          region_lock = false; aside[id] = false;
          goto again
       fi;
#endif
       if
       :: journaled[B(l, g)] -> skip
       :: else ->
          aside[id] = true; inside[id] = false;
#if BUG == 1
          journaled[B(l, g)] = true;
#endif
#if BUG == 2
          s0 = journaled[B(l, 0)] || g == 0; s1 = journaled[B(l, 1)] || g == 1;
#endif
          take(l);
#if BUG != 2
          s0 = journaled[B(l, 0)] || g == 0; s1 = journaled[B(l, 1)] || g == 1;
#endif
#ifdef EARLY
          if                                              /* given up for dead with the lock in its hands */
          ::
#if BUG == 9
             release(l);                                  /* but its write is still to come */
             assert(!(l == 0 && reused));
             atomic { cached[B(l, 0)] = s0; cached[B(l, 1)] = s1 };
#else
             atomic { cached[B(l, 0)] = s0; cached[B(l, 1)] = s1 };
             /* exited: written from memory, then released */
             atomic { cached[B(l, 0)] = journaled[B(l, 0)]; cached[B(l, 1)] = journaled[B(l, 1)] };
             release(l);
#endif
             aside[id] = false;
             break
          :: skip
          fi;
#endif
          assert(!(l == 0 && reused));                    /* somebody else's block by now */
          atomic { cached[B(l, 0)] = s0; cached[B(l, 1)] = s1 };
          journaled[B(l, g)] = true;
          release(l);
#if BUG == 7
          assert(!(l == 0 && frozen));                    /* it would mark here */
#endif
          aside[id] = false;
          goto again
       fi;
       assert(!(l == 0 && frozen));                       /* marked, inside the gate */
       wrote[B(l, g)] = true;
       inside[id] = false;
       n++
    :: else -> break
    od
}

#ifdef BACKUP
proctype backup() {
#if BUG != 11
    named1 = true;                                        /* an empty successor, durable */
#endif
    atomic { (!inside[0] && !inside[1]) -> frozen = 1 };  /* the gate */
#if BUG == 11
    named1 = true;
#endif
    /* copied and flushed; decided; the record that names layer 1 alone, durable: what it speaks of is synced before it */
    d_step { synced[2] = synced[2] || cached[2]; synced[3] = synced[3] || cached[3]; abdicated = 1 };
#if BUG != 10
    (!aside[0]); (!aside[1]);
#endif
    reused = 1
}
#endif

#ifdef FOLD
proctype fold() {
#if BUG == 6
    journaled[0] = true; journaled[1] = true;
#endif
    take(0);
    atomic { cached[0] = true; cached[1] = true };
    journaled[0] = true; journaled[1] = true;
    release(0)
}
#endif

#ifdef POWER
proctype settle() {
    byte n;
    do
    :: n < 2 ->
#if BUG != 8
       atomic { !settler -> settler = true };
#endif
       atomic { !region_lock -> region_lock = true }; region = false; region_lock = false;
#if BUG != 4
       (!inside[0]); (!inside[1]);                        /* each seen outside once; the gate stays open */
#endif
#if BUG != 12
       d_step { synced[0] = cached[0]; synced[1] = cached[1]; synced[2] = cached[2]; synced[3] = cached[3] };
#endif
       atomic { !region_lock -> region_lock = true };
#if BUG == 5
       region_on_disk = false;
#else
       if :: !region -> region_on_disk = false :: else fi;
#endif
       region_lock = false;
       settler = false;
       n++
    :: else -> break
    od
}
#endif

active proctype watcher() {
end: atomic { !(HELD0(0) && HELD0(1) && HELD1(0) && HELD1(1)) -> assert(false) }
}

init {
    atomic {
        run writer(0); run writer(1);
#ifdef BACKUP
        run backup();
#endif
#ifdef FOLD
        run fold();
#endif
#ifdef POWER
        run settle();
#if SETTLERS == 2
        run settle();
#endif
#endif
    }
}
#endif
