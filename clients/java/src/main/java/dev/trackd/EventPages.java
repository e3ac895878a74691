package dev.trackd;

import dev.trackd.v1.ListEventsRequest;
import dev.trackd.v1.ListEventsResponse;
import dev.trackd.v1.StoredEvent;
import java.util.Collections;
import java.util.Iterator;
import java.util.NoSuchElementException;
import java.util.function.Function;

/** A list of events, fetched page by page while it is consumed. */
final class EventPages implements Iterator<StoredEvent> {
  private final Function<ListEventsRequest, ListEventsResponse> ask;
  private ListEventsRequest next; // null: there is no further page
  private Iterator<StoredEvent> page = Collections.emptyIterator();

  EventPages(Function<ListEventsRequest, ListEventsResponse> ask, ListEventsRequest first) {
    this.ask = ask;
    next = first;
  }

  @Override
  public boolean hasNext() {
    while (!page.hasNext() && next != null) {
      ListEventsResponse response = ask.apply(next);
      page = response.getEventsList().iterator();
      String token = response.getNextPageToken();
      next = token.isEmpty() ? null : next.toBuilder().setPageToken(token).build();
    }
    return page.hasNext();
  }

  @Override
  public StoredEvent next() {
    if (!hasNext()) {
      throw new NoSuchElementException();
    }
    return page.next();
  }
}
