package dev.trackd;

import dev.trackd.v1.Event;

/**
 * One event that is not stored, and never will be as it is.
 *
 * @param sequence its place, from 0, among all that were given to the {@link Appender}
 * @param event the event
 * @param reason the daemon's machine word
 * @param message the same in a sentence that says what to do
 * @param field the field at fault; "" where no single one is
 */
public record Rejection(long sequence, Event event, String reason, String message, String field) {}
