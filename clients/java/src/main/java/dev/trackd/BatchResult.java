package dev.trackd;

import java.util.List;
import java.util.Optional;
import java.util.OptionalLong;

/**
 * An answer to one batch: what became of some events.
 *
 * @param accepted events that were stored
 * @param duplicate events that were stored already, with the same content: a success
 * @param rejected events that are not stored
 * @param queued events without a known outcome; only with DURABILITY_ACCEPTED
 * @param lastPosition the highest position given to the accepted events
 * @param rejections the rejected events, in order
 * @param refusal set where the daemon refused the batch as a whole; then all its events are rejected for that reason
 */
public record BatchResult(
    long accepted,
    long duplicate,
    long rejected,
    long queued,
    OptionalLong lastPosition,
    List<Rejection> rejections,
    Optional<TrackdException> refusal) {}
