package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// The kinds of work of an application: what no driver sends again is among it.
func kinds(ctx context.Context, client *mongo.Client) []func(n int) error {
	shop := client.Database("shop")
	return []func(n int) error{
		func(int) error {
			// A cursor of several batches.
			cursor, err := shop.Collection("orders").Find(
				ctx, bson.D{}, options.Find().SetBatchSize(10).SetLimit(45))
			if err != nil {
				return err
			}
			var found []bson.D
			return cursor.All(ctx, &found)
		},
		func(n int) error {
			_, err := shop.Collection("orders").UpdateOne(ctx, bson.D{{Key: "n", Value: n % 50}},
				bson.D{{Key: "$set", Value: bson.D{{Key: "n", Value: n % 50}}}},
				options.UpdateOne().SetUpsert(true))
			return err
		},
		func(int) error {
			return client.Database("admin").RunCommand(ctx, bson.D{{Key: "ping", Value: 1}}).Err()
		},
		func(n int) error {
			_, err := shop.Collection("many").DeleteMany(ctx, bson.D{{Key: "n", Value: n}})
			return err
		},
		func(n int) error {
			session, err := client.StartSession()
			if err != nil {
				return err
			}
			defer session.EndSession(ctx)
			_, err = session.WithTransaction(ctx, func(ctx context.Context) (any, error) {
				for _, name := range []string{"stock", "moves"} {
					document := bson.D{{Key: "n", Value: n}}
					if _, err := shop.Collection(name).InsertOne(ctx, document); err != nil {
						return nil, err
					}
				}
				return nil, nil
			})
			return err
		},
	}
}

// steady works until stdin ends, and then says what it saw: one JSON line of how much was done and of
// every error that came out of the driver.
func steady(uri string, workers int) {
	ctx := context.Background()
	client, err := mongo.Connect(options.Client().ApplyURI(uri).SetAppName("steady"))
	if err != nil {
		panic(err)
	}
	var going atomic.Bool
	going.Store(true)
	var done atomic.Int64
	var mutex sync.Mutex
	errors := []string{}
	var working sync.WaitGroup
	for worker := range workers {
		working.Add(1)
		go func() {
			defer working.Done()
			work := kinds(ctx, client)
			for n := worker; going.Load(); n++ {
				kind := n % len(work)
				if err := work[kind](n); err != nil {
					mutex.Lock()
					errors = append(errors, fmt.Sprintf("kind %d: %v", kind, err))
					mutex.Unlock()
				}
				done.Add(1)
			}
		}()
	}
	_, _ = io.ReadAll(os.Stdin)
	going.Store(false)
	working.Wait()
	if err := client.Disconnect(ctx); err != nil {
		panic(err)
	}
	told, _ := json.Marshal(map[string]any{"done": done.Load(), "errors": errors})
	fmt.Println(string(told))
}
