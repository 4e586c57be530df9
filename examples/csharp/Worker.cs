// Prints the messages of a channel, one a line, and finishes them. Ends cleanly on Ctrl-C and SIGTERM.
using System.Runtime.InteropServices;
using System.Text;
using Google.Protobuf;
using Grpc.Core;
using Grpc.Net.Client;
using Libmq.V1;

namespace Libmq.Example;

/// <summary>One subscription: reads messages, works on one at a time, and acknowledges each.</summary>
internal sealed class Worker
{
    // Messages that may be unfinished at a time: the one at work and a few that wait. Finishing some makes room for others.
    private const uint Credit = 16;
    private const ulong RetryAfterMs = 500;
    private static readonly TimeSpan FirstPause = TimeSpan.FromMilliseconds(100);
    private static readonly TimeSpan LongestPause = TimeSpan.FromSeconds(5);

    private readonly SubscribeService.SubscribeServiceClient client;
    private readonly Metadata headers = new();
    private readonly string topic;
    private readonly string channel;
    // A stream takes one write at a time.
    private readonly SemaphoreSlim writing = new(1, 1);
    private readonly object guard = new();
    // What waits or is at work.
    private readonly LinkedList<ReceivedMessage> waiting = new();
    private TimeSpan pause = FirstPause;

    private Worker(GrpcChannel broker, string topic, string channel)
    {
        client = new SubscribeService.SubscribeServiceClient(broker);
        this.topic = topic;
        this.channel = channel;
        if (Environment.GetEnvironmentVariable("MQ_TOKEN") is { Length: > 0 } token)
        {
            headers.Add("authorization", $"Bearer {token}");
        }
    }

    /// <summary>Your work: what throws is delivered again later. A message may come more than once in any case.</summary>
    private static void Process(ReceivedMessage message)
    {
        if (message.Attempts == 1 && message.Body.ToStringUtf8() == "fail-once")
        {
            throw new InvalidOperationException("this one fails at its first attempt");
        }
        Console.Out.WriteLine(Encoding.UTF8.GetString(message.Body.Span));
    }

    private async Task Send(IClientStreamWriter<SubscribeRequest> requests, SubscribeRequest request)
    {
        await writing.WaitAsync();
        try
        {
            await requests.WriteAsync(request);
        }
        finally
        {
            writing.Release();
        }
    }

    private Task Update(IClientStreamWriter<SubscribeRequest> requests, SubscribeUpdate update) =>
        Send(requests, new SubscribeRequest { Update = update });

    private ByteString[] Tokens()
    {
        lock (guard)
        {
            return waiting.Select(message => message.Token).ToArray();
        }
    }

    /// <summary>Extends what is at work or waits, three times within its timeout.</summary>
    private async Task Touch(
        IClientStreamWriter<SubscribeRequest> requests, TimeSpan every, CancellationToken over)
    {
        using var timer = new PeriodicTimer(every);
        while (await timer.WaitForNextTickAsync(over))
        {
            var update = new SubscribeUpdate();
            update.Touch.Add(Tokens());
            await Update(requests, update);
        }
    }

    /// <summary>Works on what waits, until nothing does or <paramref name="stop"/> asks for the end.</summary>
    private async Task Work(IClientStreamWriter<SubscribeRequest> requests, CancellationToken stop)
    {
        while (!stop.IsCancellationRequested)
        {
            ReceivedMessage? message;
            lock (guard)
            {
                message = waiting.First?.Value;
            }
            if (message is null)
            {
                return;
            }
            var update = new SubscribeUpdate();
            try
            {
                Process(message);
                update.Finish.Add(message.Token);
            }
            catch (Exception error)
            {
                Console.Error.WriteLine($"to be tried again: {error.Message}");
                var again = new SubscribeRequeue { DelayMs = RetryAfterMs };
                again.Tokens.Add(message.Token);
                update.Requeue.Add(again);
            }
            lock (guard)
            {
                waiting.RemoveFirst();
            }
            await Update(requests, update);
        }
    }

    /// <summary>Gives back what nobody worked on, which then counts as no attempt, and closes this side.</summary>
    private async Task Leave(IClientStreamWriter<SubscribeRequest> requests)
    {
        var update = new SubscribeUpdate { Credit = new SubscribeCredit { Messages = 0 } };
        update.Release.Add(Tokens());
        await Update(requests, update);
        await requests.CompleteAsync();
    }

    /// <summary>Works over one stream until it ends.</summary>
    private async Task Subscribe(CancellationToken stop)
    {
        using var call = client.Subscribe(headers);
        using var over = new CancellationTokenSource();
        waiting.Clear();
        var open = new SubscribeOpen
        {
            Topic = topic,
            Channel = channel,
            ClientName = "example worker (C#)",
            Credit = new SubscribeCredit { Messages = Credit },
            // The channel takes messages of any size, see Main.
            MaxMessageBytes = 0,
        };
        await Send(call.RequestStream, new SubscribeRequest { Open = open });
        var touching = Task.CompletedTask;
        Task<bool>? next = null;
        var stopped = Task.Delay(Timeout.Infinite, stop);
        try
        {
            while (!stop.IsCancellationRequested)
            {
                next ??= call.ResponseStream.MoveNext(CancellationToken.None);
                if (await Task.WhenAny(next, stopped) != next)
                {
                    break;
                }
                if (!await next)
                {
                    return;
                }
                next = null;
                var response = call.ResponseStream.Current;
                switch (response.ResponseCase)
                {
                    case SubscribeResponse.ResponseOneofCase.Opened:
                        pause = FirstPause;
                        var every = TimeSpan.FromMilliseconds(response.Opened.MsgTimeoutMs / 3.0);
                        touching = Touch(call.RequestStream, every, over.Token);
                        break;
                    case SubscribeResponse.ResponseOneofCase.Batch:
                        lock (guard)
                        {
                            foreach (var message in response.Batch.Messages)
                            {
                                waiting.AddLast(message);
                            }
                        }
                        await Work(call.RequestStream, stop);
                        break;
                    case SubscribeResponse.ResponseOneofCase.Failures:
                        // Their timeout had passed: they are delivered again, here or elsewhere.
                        Console.Error.WriteLine($"{response.Failures.Failures.Count} came too late");
                        break;
                }
            }
            over.Cancel();
            await Leave(call.RequestStream);
            // To the end: only then has the broker read what was released.
            while (await (next ?? call.ResponseStream.MoveNext(CancellationToken.None)))
            {
                next = null;
            }
        }
        finally
        {
            over.Cancel();
            await touching.ContinueWith(_ => { }, TaskScheduler.Default);
        }
    }

    private async Task<int> Run(CancellationToken stop)
    {
        while (!stop.IsCancellationRequested)
        {
            try
            {
                await Subscribe(stop);
            }
            catch (RpcException error) when (error.StatusCode == StatusCode.Unavailable)
            {
                Console.Error.WriteLine($"connecting again: {error.Status.Detail}");
                await Task.Delay(pause, stop).ContinueWith(_ => { }, TaskScheduler.Default);
                pause = 2 * pause < LongestPause ? 2 * pause : LongestPause;
            }
            catch (RpcException error)
            {
                Console.Error.WriteLine($"worker: {error.StatusCode}: {error.Status.Detail}");
                return 1;
            }
        }
        return 0;
    }

    private static async Task<int> Main(string[] arguments)
    {
        if (arguments.Length is < 2 or > 3)
        {
            Console.Error.WriteLine("usage: worker TOPIC CHANNEL [http://127.0.0.1:4155]");
            return 2;
        }
        var address = arguments.Length == 3 ? arguments[2] : "http://127.0.0.1:4155";
        using var stop = new CancellationTokenSource();
        Action<PosixSignalContext> end = signal =>
        {
            signal.Cancel = true;
            stop.Cancel();
        };
        using var interrupted = PosixSignalRegistration.Create(PosixSignal.SIGINT, end);
        using var terminated = PosixSignalRegistration.Create(PosixSignal.SIGTERM, end);
        using var broker = GrpcChannel.ForAddress(address, new GrpcChannelOptions { MaxReceiveMessageSize = null });
        return await new Worker(broker, arguments[0], arguments[1]).Run(stop.Token);
    }
}
