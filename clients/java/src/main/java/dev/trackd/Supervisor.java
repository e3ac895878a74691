package dev.trackd;

import dev.trackd.Backoff.Delays;
import dev.trackd.Backoff.Patience;
import dev.trackd.Window.Batch;
import dev.trackd.Window.Limits;
import dev.trackd.v1.AppendBatchAnswer;
import dev.trackd.v1.AppendStreamOpen;
import dev.trackd.v1.AppendStreamRequest;
import dev.trackd.v1.AppendStreamResponse;
import dev.trackd.v1.IngestServiceGrpc;
import dev.trackd.v1.IngestServiceGrpc.IngestServiceStub;
import io.grpc.ConnectivityState;
import io.grpc.ManagedChannel;
import io.grpc.Status.Code;
import io.grpc.stub.ClientCallStreamObserver;
import io.grpc.stub.StreamObserver;
import java.time.Duration;
import java.util.concurrent.TimeUnit;

/**
 * The thread of an {@link Appender}: opens streams, one after the other, writes batches, and decides when to give up. What
 * it finds is decided under the Appender's lock; calls of gRPC are made without it.
 */
final class Supervisor implements Runnable {
  private static final long CONNECT_NANOS_MAX = TimeUnit.SECONDS.toNanos(1);

  private final Appender appender;
  private final AppenderOptions options;
  private final ManagedChannel channel;
  private final IngestServiceStub stub;

  // Guarded by the Appender's lock.
  private final Window window;
  private final Delays delays;
  private final Patience patience;
  private long pausedUntilNanos = System.nanoTime(); // nothing is sent before
  private TrackdException last; // the last one met

  Supervisor(Appender appender, ManagedChannel channel) {
    this.appender = appender;
    this.channel = channel;
    options = appender.options;
    window = appender.window;
    stub = IngestServiceGrpc.newStub(channel);
    delays = new Delays(options.backoff);
    patience = new Patience(options.giveUpAfter);
  }

  @Override
  public void run() {
    try {
      while (waitForWork()) {
        connect();
        waitOut(runStream());
      }
    } catch (RuntimeException | Error defect) {
      appender.lock.lock();
      appender.fail(new IllegalStateException("the Appender is broken", defect));
      appender.lock.unlock();
    }
  }

  /** Whether there is something to send; false once the Appender is closed or has failed. */
  private boolean waitForWork() {
    appender.lock.lock();
    try {
      appender.promote();
      while (!appender.isDone() && window.isEmpty()) {
        appender.await(appender.lingerNanos());
        appender.promote();
      }
      return !appender.isDone();
    } finally {
      appender.lock.unlock();
    }
  }

  /**
   * Lets a channel that failed to connect try again now: by itself it would wait for up to two minutes. Calls on it fail
   * until it is connected, so this takes the time that connecting takes, but no longer than a second.
   */
  private void connect() {
    if (channel.getState(true) != ConnectivityState.TRANSIENT_FAILURE) {
      return;
    }
    boolean[] moved = {false};
    channel.notifyWhenStateChanged(
        ConnectivityState.TRANSIENT_FAILURE,
        () -> {
          appender.lock.lock();
          moved[0] = true;
          appender.signal();
          appender.lock.unlock();
        });
    channel.resetConnectBackoff();
    appender.lock.lock();
    try {
      long untilNanos = System.nanoTime() + CONNECT_NANOS_MAX;
      while (!moved[0] && !appender.isDone() && untilNanos - System.nanoTime() > 0) {
        appender.await(untilNanos - System.nanoTime());
      }
    } finally {
      appender.lock.unlock();
    }
  }

  /** Opens one stream, stays until it has ended, by itself or because it must, and returns why; null: in order. */
  private TrackdException runStream() {
    Answers answers = new Answers();
    ClientCallStreamObserver<AppendStreamRequest> requests =
        (ClientCallStreamObserver<AppendStreamRequest>) stub.appendStream(answers);
    AppendStreamOpen opening =
        AppendStreamOpen.newBuilder().setSource(options.source).setDurability(options.durability).build();
    requests.onNext(AppendStreamRequest.newBuilder().setOpen(opening).build());
    for (Batch batch = nextBatch(answers); batch != null; batch = nextBatch(answers)) {
      requests.onNext(batch.request());
    }
    if (endsInOrder(answers)) {
      requests.onCompleted();
      await(answers, options.answerTimeout.toNanos());
    }
    cut(answers);
    requests.cancel("the Appender is done with this stream", null); // no effect on one that has ended
    return await(answers, Long.MAX_VALUE);
  }

  /** Waits for the next batch that may be sent; null: there will be none on this stream. */
  private Batch nextBatch(Answers answers) {
    appender.lock.lock();
    try {
      while (!answers.ended && !appender.isDone()) {
        appender.promote();
        if (!window.isEmpty()) {
          patience.watch(System.nanoTime(), true);
        }
        long leftNanos = leftNanos(answers);
        if (leftNanos <= 0) {
          return null;
        }
        long pauseNanos = pausedUntilNanos - System.nanoTime();
        boolean nothingSent = !window.awaitsAnswer();
        Batch batch = pauseNanos <= 0 ? window.take() : null;
        if (batch != null) {
          answers.sinceNanos = nothingSent ? System.nanoTime() : answers.sinceNanos;
          return batch;
        }
        leftNanos = Math.min(leftNanos, appender.lingerNanos());
        appender.await(pauseNanos > 0 ? Math.min(leftNanos, pauseNanos) : leftNanos);
      }
      return null;
    } finally {
      appender.lock.unlock();
    }
  }

  /** How long this stream may go on without anything happening; at most 0: it must end. */
  private long leftNanos(Answers answers) {
    long nowNanos = System.nanoTime();
    long leftNanos = patience.leftNanos(nowNanos);
    if (window.isOpen() && !window.awaitsAnswer()) {
      return leftNanos;
    }
    long overdueNanos = answers.sinceNanos + options.answerTimeout.toNanos() - nowNanos;
    if (overdueNanos <= 0 && answers.error == null) {
      answers.error =
          TrackdException.of(Code.DEADLINE_EXCEEDED, "", "no answer within " + options.answerTimeout.toMillis() + " ms");
    }
    return Math.min(leftNanos, overdueNanos);
  }

  private void cut(Answers answers) {
    appender.lock.lock();
    answers.cut = !answers.ended;
    appender.lock.unlock();
  }

  private boolean endsInOrder(Answers answers) {
    appender.lock.lock();
    try {
      return !answers.ended && appender.isDone() && !appender.hasFailed();
    } finally {
      appender.lock.unlock();
    }
  }

  /** Waits until the stream has ended, or so long, and returns why. */
  private TrackdException await(Answers answers, long nanos) {
    appender.lock.lock();
    try {
      long untilNanos = System.nanoTime() + nanos;
      while (!answers.ended && untilNanos - System.nanoTime() > 0) {
        appender.await(untilNanos - System.nanoTime());
      }
      if (answers.ended) {
        window.lost();
      }
      return answers.error;
    } finally {
      appender.lock.unlock();
    }
  }

  /** After a stream has ended: gives up, or waits as long as it is wise before the next one. */
  private void waitOut(TrackdException error) {
    appender.lock.lock();
    try {
      last = error == null ? last : error;
      if (appender.isDone() || window.isEmpty()) {
        return;
      }
      if (error != null && error.breaksForGood()) {
        giveUp("the daemon refuses the stream");
        return;
      }
      long nowNanos = System.nanoTime();
      long delayNanos = delays.nextNanos(error == null ? Duration.ZERO : error.retryAfter().orElse(Duration.ZERO));
      long leftNanos = patience.leftNanos(nowNanos);
      long untilNanos = nowNanos + Math.min(delayNanos, leftNanos);
      while (!appender.isDone() && untilNanos - System.nanoTime() > 0) {
        appender.await(untilNanos - System.nanoTime());
      }
      if (!appender.isDone() && leftNanos <= delayNanos) {
        giveUp("no event was answered for " + options.giveUpAfter.toMillis() + " ms");
      }
    } finally {
      appender.lock.unlock();
    }
  }

  private void giveUp(String why) {
    appender.fail(new GaveUpException(why, appender.openEvents(), last));
  }

  /** One open stream, and what is heard of it on threads of gRPC. */
  private final class Answers implements StreamObserver<AppendStreamResponse> {
    // Guarded by the Appender's lock.
    private boolean ended;
    private boolean cut; // we end it: what gRPC says of that is no news
    private TrackdException error; // why it ended; null for a regular end
    private long sinceNanos = System.nanoTime(); // since when it owes us something

    @Override
    public void onNext(AppendStreamResponse response) {
      switch (response.getMessageCase()) {
        case OPENED -> opened(response);
        case ANSWER -> answered(response.getAnswer());
        case MESSAGE_NOT_SET -> throw TrackdException.violation("a message that is neither opened nor an answer");
      }
    }

    @Override
    public void onError(Throwable broken) {
      ended(TrackdException.of(broken));
    }

    @Override
    public void onCompleted() {
      ended(null);
    }

    private void opened(AppendStreamResponse response) {
      appender.lock.lock();
      try {
        if (window.isOpen()) {
          throw TrackdException.violation("the stream was opened twice");
        }
        window.opened(Limits.told(response.getOpened().getLimits()));
        sinceNanos = System.nanoTime();
        appender.signal();
      } finally {
        appender.lock.unlock();
      }
    }

    /** Takes one answer. It does not hold the lock while the user's code runs. */
    private void answered(AppendBatchAnswer answer) {
      Verdict verdict;
      appender.lock.lock();
      try {
        verdict = Verdict.of(window.expect(answer.getBatchId()), answer, window::batchOf);
      } finally {
        appender.lock.unlock();
      }
      RuntimeException thrown = null;
      if (verdict.result() != null) {
        try {
          options.onResult.accept(verdict.result());
        } catch (RuntimeException ofTheUser) {
          thrown = ofTheUser;
        }
      }
      appender.lock.lock();
      try {
        settle(verdict);
        if (thrown != null) {
          appender.fail(thrown);
        }
      } finally {
        appender.lock.unlock();
      }
    }

    private void settle(Verdict verdict) {
      long nowNanos = System.nanoTime();
      sinceNanos = nowNanos;
      window.settle(verdict.again());
      if (verdict.result() != null) {
        appender.count(verdict.result());
        delays.reset();
        patience.progress(nowNanos);
      }
      if (verdict.again() != null) {
        last = verdict.why();
        pausedUntilNanos = nowNanos + delays.nextNanos(last.retryAfter().orElse(Duration.ZERO));
      }
      appender.promote();
      patience.watch(nowNanos, !window.isEmpty());
      appender.signal();
    }

    private void ended(TrackdException why) {
      appender.lock.lock();
      try {
        error = cut ? error : why;
        ended = true;
        appender.signal();
      } finally {
        appender.lock.unlock();
      }
    }
  }
}
