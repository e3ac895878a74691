// What generates the stubs. A module of its own, so that applications which use the client need none of it.
module trackd.dev/clients/go/tools

go 1.19

// The same protobuf as the client's: stubs work with the modules that made them and later ones.
require (
	google.golang.org/grpc/cmd/protoc-gen-go-grpc v1.3.0
	google.golang.org/protobuf v1.34.1
)
