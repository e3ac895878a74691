package main

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"

	"trackd.dev/clients/go/trackd"
	trackdv1 "trackd.dev/clients/go/trackd/v1"
)

// event is one as the suite writes it.
type event struct {
	ID          string   `json:"id"`
	Type        string   `json:"type"`
	UserID      string   `json:"user_id"`
	TimestampMs *int64   `json:"timestamp_ms"`
	SessionID   string   `json:"session_id"`
	ClientIP    string   `json:"client_ip"`
	Description string   `json:"description"`
	Tags        []string `json:"tags"`
	Metadata    string   `json:"metadata"`
	Change      *change  `json:"change"`
}

type change struct {
	TableName    string `json:"table_name"`
	RowID        string `json:"row_id"`
	Action       string `json:"action"`
	OldValues    string `json:"old_values"`
	NewValues    string `json:"new_values"`
	Status       string `json:"status"`
	RowsAffected *int64 `json:"rows_affected"`
}

func messages(events []event) ([]*trackd.Event, error) {
	made := make([]*trackd.Event, len(events))
	for at, one := range events {
		id, err := hex.DecodeString(one.ID)
		if err != nil {
			return nil, fmt.Errorf("the id of event %d: %w", at, err)
		}
		made[at] = &trackd.Event{
			Id: id, Type: one.Type, UserId: one.UserID, TimestampMs: one.TimestampMs, SessionId: one.SessionID,
			ClientIp: one.ClientIP, Description: one.Description, Tags: one.Tags, Metadata: one.Metadata,
			Change: one.Change.message(),
		}
	}
	return made, nil
}

func (c *change) message() *trackd.Change {
	if c == nil {
		return nil
	}
	return &trackd.Change{
		TableName: c.TableName, RowId: c.RowID, OldValues: c.OldValues, NewValues: c.NewValues,
		RowsAffected: c.RowsAffected,
		Action:       trackdv1.ChangeAction(trackdv1.ChangeAction_value["CHANGE_ACTION_"+strings.ToUpper(c.Action)]),
		Status:       trackdv1.ChangeStatus(trackdv1.ChangeStatus_value["CHANGE_STATUS_"+strings.ToUpper(c.Status)]),
	}
}

// made is the made event number n.
func made(n int64, how command) *trackd.Event {
	moment := how.BaseMs + n
	id := make([]byte, 16)
	binary.BigEndian.PutUint64(id, uint64(moment)<<16|0x7000)
	id[8] = 0x80
	binary.BigEndian.PutUint32(id[12:], uint32(n))
	metadata := fmt.Sprintf(`{"n":%d}`, n)
	if how.Padding > 0 {
		metadata = fmt.Sprintf(`{"n":%d,"pad":"%s"}`, n, strings.Repeat("x", how.Padding))
	}
	return &trackd.Event{
		Id: id, Type: how.Type, UserId: fmt.Sprintf("user-%d", n%7), TimestampMs: &moment, Metadata: metadata,
	}
}
