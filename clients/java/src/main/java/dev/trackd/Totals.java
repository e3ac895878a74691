package dev.trackd;

/**
 * Sums over answers.
 *
 * @param accepted events that were stored
 * @param duplicate events that were stored already, with the same content: a success
 * @param rejected events that are not stored
 * @param queued events without a known outcome; only with DURABILITY_ACCEPTED
 */
public record Totals(long accepted, long duplicate, long rejected, long queued) {
  static final Totals NONE = new Totals(0, 0, 0, 0);

  long answered() {
    return accepted + duplicate + rejected + queued;
  }

  Totals plus(BatchResult result) {
    return new Totals(
        accepted + result.accepted(),
        duplicate + result.duplicate(),
        rejected + result.rejected(),
        queued + result.queued());
  }
}
