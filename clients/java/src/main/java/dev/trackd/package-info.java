/**
 * Sends events to a trackd daemon and asks it questions.
 *
 * <p>{@link dev.trackd.TrackdClient} asks, follows, and sends one batch at a time. {@link dev.trackd.Appender} sends many
 * events and sends again what was not acknowledged. The messages are those of the wire contract, package {@code
 * dev.trackd.v1}; {@link dev.trackd.Events} makes the ones that are sent.
 */
package dev.trackd;
