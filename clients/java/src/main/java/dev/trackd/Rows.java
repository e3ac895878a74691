package dev.trackd;

import dev.trackd.v1.AggregateResponse;
import dev.trackd.v1.Column;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** Reads the tables that {@link TrackdClient#aggregate} gives. */
public final class Rows {
  private Rows() {}

  /**
   * The rows, with values by the names of columns, in their order: String, Long, Double, or null where there is none.
   * Instants are milliseconds since 1970, UTC.
   */
  public static List<Map<String, Object>> of(AggregateResponse answer) {
    List<Map<String, Object>> rows = new ArrayList<>();
    for (int at = 0; at < answer.getRows(); at++) {
      Map<String, Object> row = new LinkedHashMap<>();
      for (Column column : answer.getColumnsList()) {
        row.put(column.getName(), column.getAbsentRowsList().contains(at) ? null : value(column, at));
      }
      rows.add(row);
    }
    return rows;
  }

  private static Object value(Column column, int at) {
    if (at < column.getIntegersCount()) {
      return column.getIntegers(at);
    }
    if (at < column.getRealsCount()) {
      return column.getReals(at);
    }
    return at < column.getTextsCount() ? column.getTexts(at) : null;
  }
}
