package dev.trackd;

import dev.trackd.Window.Batch;
import dev.trackd.Window.Entry;
import dev.trackd.v1.AppendBatchAnswer;
import dev.trackd.v1.AppendItem;
import dev.trackd.v1.AppendOutcome;
import dev.trackd.v1.AppendResult;
import io.grpc.Status.Code;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.OptionalLong;
import java.util.function.Function;

/**
 * What an answer means for the sender.
 *
 * @param result what is final; null for nothing
 * @param again what is to be sent again; null for nothing
 * @param why for what reason it is sent again
 */
record Verdict(BatchResult result, Batch again, TrackdException why) {
  /**
   * How often a batch is sent again after INTERNAL: a daemon that restarts cures it, a defect that the batch provokes
   * stays.
   */
  static final int DEFECTS_MAX = 5;

  /** Reads an answer. {@code rebatch} makes a batch of some events of this one. */
  static Verdict of(Batch sent, AppendBatchAnswer answer, Function<List<Entry>, Batch> rebatch) {
    return switch (answer.getOutcomeCase()) {
      case RESULT -> ofResult(sent, answer.getResult(), rebatch);
      case ERROR -> ofRefusal(sent, TrackdException.of(answer.getError()));
      case OUTCOME_NOT_SET -> throw TrackdException.violation("the answer to batch " + sent.id() + " says nothing");
    };
  }

  private static Verdict ofRefusal(Batch sent, TrackdException refusal) {
    if (refusal.retryable()) {
      return new Verdict(null, sent, refusal);
    }
    // Of INTERNAL the outcome is unknown. The ids make sending again safe, so a daemon gets the chance to restart.
    boolean defect = refusal.code() == Code.INTERNAL || refusal.code() == Code.UNKNOWN;
    if (defect && sent.defects() < DEFECTS_MAX) {
      return new Verdict(null, sent.withDefect(), refusal);
    }
    String reason = refusal.reason().isEmpty() ? refusal.code().name() : refusal.reason();
    List<Rejection> rejections = new ArrayList<>();
    for (Entry entry : sent.entries()) {
      rejections.add(new Rejection(entry.sequence(), entry.event(), reason, refusal.getMessage(), ""));
    }
    int count = sent.entries().size();
    BatchResult result =
        new BatchResult(0, 0, count, 0, OptionalLong.empty(), List.copyOf(rejections), Optional.of(refusal));
    return new Verdict(result, null, null);
  }

  private static Verdict ofResult(Batch sent, AppendResult told, Function<List<Entry>, Batch> rebatch) {
    int count = sent.entries().size();
    if (told.getAccepted() + told.getDuplicate() + told.getRejected() + told.getQueued() != count) {
      throw TrackdException.violation("the answer to batch " + sent.id() + " is not about its " + count + " events");
    }
    List<Rejection> rejections = new ArrayList<>();
    List<Entry> later = new ArrayList<>();
    TrackdException why = null;
    for (AppendItem item : told.getItemsList()) {
      if (item.getOutcome() != AppendOutcome.APPEND_OUTCOME_REJECTED) {
        continue;
      }
      if (item.getIndex() < 0 || item.getIndex() >= count) {
        throw TrackdException.violation(
            "the answer to batch " + sent.id() + " names event " + item.getIndex() + " of " + count);
      }
      Entry entry = sent.entries().get((int) item.getIndex());
      if (item.getRetryable()) {
        later.add(entry);
        why = TrackdException.of(Code.ABORTED, item.getReason(), item.getMessage());
      } else {
        rejections.add(
            new Rejection(entry.sequence(), entry.event(), item.getReason(), item.getMessage(), item.getField()));
      }
    }
    if (rejections.size() + later.size() != told.getRejected()) {
      throw TrackdException.violation("the answer to batch " + sent.id() + " does not name what it rejects");
    }
    OptionalLong last = told.hasLastPosition() ? OptionalLong.of(told.getLastPosition()) : OptionalLong.empty();
    BatchResult result =
        new BatchResult(
            told.getAccepted(),
            told.getDuplicate(),
            rejections.size(),
            told.getQueued(),
            last,
            List.copyOf(rejections),
            Optional.empty());
    return new Verdict(later.size() == count ? null : result, later.isEmpty() ? null : rebatch.apply(later), why);
  }
}
