// Web is an HTTP server that records what is asked of it: an event a request, sent in the background, each stored once.
// Copy it and go on from there.
//
//	TRACKD_TARGET=127.0.0.1:7077 PORT=8080 go run ./examples/web
package main

import (
	"context"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"trackd.dev/clients/go/trackd"
)

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	client, err := trackd.NewClient("") // TRACKD_TARGET, or the daemon on this machine
	if err != nil {
		return err
	}
	defer client.Close()
	appender := client.NewAppender(trackd.AppenderConfig{
		Source:      "web",
		OnResult:    complain,
		GiveUpAfter: 24 * time.Hour, // a server outlives a daemon that is away for long
	})

	mux := http.NewServeMux()
	mux.HandleFunc("/", func(response http.ResponseWriter, request *http.Request) {
		fmt.Fprintln(response, "hello")
	})
	listener, err := net.Listen("tcp", "127.0.0.1:"+os.Getenv("PORT"))
	if err != nil {
		return err
	}
	server := &http.Server{Handler: recorded(appender, mux), ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	fmt.Println("listening on", listener.Addr().(*net.TCPAddr).Port)

	stop, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	select {
	case <-stop.Done():
	case err := <-served:
		return err
	}
	ending, cancelEnding := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancelEnding()
	if err := server.Shutdown(ending); err != nil {
		log.Print(err)
	}
	totals, err := appender.Close(ending) // sends what is open
	fmt.Printf("%+v\n", totals)
	return err
}

// recorded sends an event for each request. It waits only while the window is full, and no longer than 50 ms: a daemon
// that is away for long costs events and not requests.
func recorded(appender *trackd.Appender, next http.Handler) http.Handler {
	return http.HandlerFunc(func(response http.ResponseWriter, request *http.Request) {
		started := time.Now()
		next.ServeHTTP(response, request)
		ctx, cancel := context.WithTimeout(request.Context(), 50*time.Millisecond)
		defer cancel()
		event := &trackd.Event{
			Type:   "request_served",
			UserId: request.Header.Get("X-User"),
			Metadata: trackd.JSON(map[string]any{
				"method": request.Method, "path": request.URL.Path, "ms": time.Since(started).Milliseconds(),
			}),
		}
		if err := appender.Send(ctx, event); err != nil {
			log.Print("not recorded: ", err)
		}
	})
}

// complain tells of events that the daemon does not take: a defect of this program, most likely.
func complain(result trackd.BatchResult) {
	for _, rejection := range result.Rejections {
		log.Print("rejected: ", rejection.Event.GetType(), " ", rejection.Reason, ": ", rejection.Message)
	}
}
