export interface BlockNodeOptions {
  readonly discard?: "ignore" | "unmap";
}
export interface BegunBackup {
  readonly id: string;
  /** Milliseconds that it took. */
  readonly done: Promise<number>;
}
export declare class QemuStorageDaemon {
  static start(stage: { path(name: string): string }): Promise<QemuStorageDaemon>;
  readonly nbdSocket: string;
  execute(command: string, args?: object): Promise<unknown>;
  addFile(name: string, filename: string, options?: BlockNodeOptions): Promise<void>;
  export(node: string, options?: object): Promise<string>;
  begin(args: object, alongside?: readonly object[]): Promise<BegunBackup>;
  backup(args: object): Promise<number>;
  stop(): Promise<void>;
}
