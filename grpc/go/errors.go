package mqgrpc

import (
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/libmq/libmq/grpc/go/mqv1"
)

var (
	// ErrClosed is the error of what a closed client, publisher or consumer is asked to do.
	ErrClosed = errors.New("mqgrpc: closed")
	// ErrUnknown says that a message was sent, but its answer did not come: it may be stored, or not.
	// Publishing it again with the same id stores it at most once, at the same broker.
	ErrUnknown = errors.New("mqgrpc: no answer came: the message may be stored")
	// ErrUnreachable says that no broker could be reached in time. The message is not stored.
	ErrUnreachable = errors.New("mqgrpc: no broker can be reached")
)

// Error is a broker's refusal of a message. It is not stored.
type Error struct {
	// Code is the code that a call would have failed with.
	Code codes.Code
	// Message says what is wrong and what would be right.
	Message string
	// Reason is the same for programs, such as FULL.
	Reason string
	// Field is the field that breaks a rule, as a path from the request, or empty.
	Field string
	// RetryAfter is when the same may be tried again, or zero. A publisher does so itself until its timeout.
	RetryAfter time.Duration
}

func (e *Error) Error() string {
	if e.Field != "" {
		return fmt.Sprintf("%s: %s: %s", e.Code, e.Field, e.Message)
	}
	return fmt.Sprintf("%s: %s", e.Code, e.Message)
}

// GRPCStatus is the error as gRPC has it.
func (e *Error) GRPCStatus() *status.Status { return status.New(e.Code, e.Message) }

func refusal(failure *mqv1.Failure) *Error {
	return &Error{
		Code:       codes.Code(failure.Code),
		Message:    failure.Message,
		Reason:     failure.Reason,
		Field:      failure.Field,
		RetryAfter: time.Duration(failure.RetryAfterMs) * time.Millisecond,
	}
}

// refusedBy is the error of a call that a broker has refused.
func refusedBy(err error) *Error {
	refused := status.Convert(err)
	return &Error{Code: refused.Code(), Message: refused.Message()}
}

func invalid(field, format string, arguments ...any) *Error {
	return &Error{Code: codes.InvalidArgument, Field: field, Message: fmt.Sprintf(format, arguments...)}
}

// isFinal says whether the same can never succeed, whenever and wherever it is tried.
func isFinal(err error) bool {
	switch status.Code(err) {
	case codes.InvalidArgument, codes.Unauthenticated, codes.PermissionDenied, codes.Unimplemented, codes.OutOfRange,
		codes.FailedPrecondition:
		return true
	}
	return false
}
