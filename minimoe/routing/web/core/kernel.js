// Requests to a live model: request and response messages are matched by id.

/** {request(kind, payload) -> Promise of the result, receive(message) -> bool, destroy()}. */
export function createKernel(model) {
  const waiting = new Map();
  let number = 0;
  return {
    request(kind, payload) {
      number += 1;
      const id = number;
      return new Promise((resolve, reject) => {
        waiting.set(id, { resolve, reject });
        model.send({ kind, id, request: payload });
      });
    },
    receive(message) {
      const promise = waiting.get(message?.id);
      if (!promise) return false;
      waiting.delete(message.id);
      if (message.error) promise.reject(new Error(message.error));
      else promise.resolve(message.result);
      return true;
    },
    destroy() {
      waiting.forEach(({ reject }) => reject(new Error("The page was closed before the answer came.")));
      waiting.clear();
    },
  };
}
